"""Many submissions under random faults: C2 runs each of them once."""

from __future__ import annotations

import os
import random
import time
from collections import Counter
from functools import partial

import pytest
from counted_runs import runs
from faults import FAULTS, RandomFaults, Submitter
from people import eventually

from qslurm.payload.comment import Comment

pytestmark = pytest.mark.slurm

SUBMISSIONS = int(os.environ.get("QSLURM_TEST_SUBMISSIONS", "200"))
PATIENCE_S = float(os.environ.get("QSLURM_TEST_PATIENCE", "300"))
SEED = int(os.environ.get("QSLURM_TEST_SEED", "0")) or random.randrange(1, 10**6)


def completed(testbed, since: float) -> Counter[str]:
    """How often C2's accounting shows each submission as completed, by its key."""
    words = ["sacct", "-nPX", "--duplicates", "--allusers", "--state=COMPLETED", "--format=Comment", "--endtime=now",
             f"--starttime={time.strftime('%Y-%m-%dT%H:%M:%S', time.localtime(since))}"]  # fmt: skip
    lines = testbed.c2(words).stdout.splitlines()
    return Counter(Comment.parse(line).key for line in lines)


def say(*words: object) -> None:
    print(time.strftime("%H:%M:%S"), *words, flush=True)


def release_held(testbed) -> None:
    """A slurmctld that was killed may have forgotten that an operator has released or resumed a job."""
    words = ("squeue", "--noheader", "--states=SUSPENDED", "--user=center_snellius", "--format=%i")
    for job_id in testbed.c2(words).stdout.split():
        testbed.c2(("scontrol", "resume", job_id))
    words = ("squeue", "--noheader", "--states=PENDING", "--user=center_snellius", "--format=%i %r")
    lines = [line.split(maxsplit=1) for line in testbed.c2(words).stdout.splitlines()]
    for job_id in [
        job_id for job_id, reason in lines if reason in ("JobHeldAdmin", "JobHeldUser", "Dependency")
    ]:
        testbed.c2(("scontrol", "release", job_id))
        testbed.c2(("scontrol", "update", f"JobId={job_id}", "Dependency="))


def test_many_submissions_under_random_faults_and_operators_run_once_each(testbed, relay, agent, counter):
    began = time.time()
    say("seed", SEED, "submissions", SUBMISSIONS)
    dice = random.Random(SEED)

    def choose(line: str) -> str:
        likely = 0.3 if line.startswith("POST") else 0.05
        return dice.choice(FAULTS) if dice.random() < likely else ""

    relay.choose = choose
    half = SUBMISSIONS // 2
    people = [
        Submitter(testbed, agent, "qs_alice", counter, range(half)),
        Submitter(testbed, agent, "qs_bob", counter, range(half, SUBMISSIONS)),
    ]
    faults = RandomFaults(testbed, agent, SEED)
    try:
        while any(person.process.poll() is None for person in people):
            say(
                faults.some(),
                "| submitted",
                sum(len(one.jobs()) for one in people),
                "ran",
                len(runs(counter)),
            )
        for _ in range(5):
            say(faults.some(), "| ran", len(runs(counter)))
    finally:
        for person in people:
            person.process.kill()
            person.process.wait()
    relay.choose = lambda _: ""
    testbed.up()
    say("no more faults:", dict(faults.done), dict(relay.done))

    def how_far() -> tuple[int, int]:
        """How many have run, and how many are not over."""
        ((left,),) = agent.query("SELECT count(*) FROM submissions WHERE NOT ended")
        ran = runs(counter)
        say("ran", len(ran), "not over", left)
        assert {number: times for number, times in ran.items() if times != 1} == {}, "run more than once"
        return len(ran), left

    def has_moved(before: tuple[int, int]) -> bool:
        time.sleep(2)
        release_held(testbed)
        return how_far() != before

    def left() -> str:
        rows = agent.query("SELECT number, key, state, job_id FROM submissions WHERE NOT ended LIMIT 5")
        return f"; left are {rows}\n{agent.log()[-3000:]}"

    while (before := how_far())[1]:  # on a busy host all of them take long, but there is always one more
        moved = partial(has_moved, before)
        eventually(moved, "one more to run or be over", patience_s=PATIENCE_S, seen=left)
    ran = runs(counter)
    assert {number: times for number, times in ran.items() if times != 1} == {}, "run more than once"
    # what C2 has lost three times is not sent once more, and its user is told so
    lost = {key for (key,) in agent.query("SELECT key FROM submissions WHERE state = 'lost'")}
    told = {number for one in people for number, (key, _) in one.jobs().items() if key in lost}
    again = sum(resent for (resent,) in agent.query("SELECT resent FROM submissions"))
    say("sent again", again, "reported as lost, since that was the third time", len(told))
    assert set(range(SUBMISSIONS)) - ran.keys() == told, "never run"
    accepted = agent.query("SELECT count(*) FROM submissions WHERE state = 'accepted'")
    assert accepted == [(SUBMISSIONS - len(told),)]
    accounted = completed(testbed, began)
    say("completed, as far as slurmctld lived to hear of it:", len(accounted))
    assert {key: times for key, times in accounted.items() if times != 1} == {}, "completed more than once"
