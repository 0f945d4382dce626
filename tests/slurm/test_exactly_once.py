"""C2 runs each submission once, whatever fails between a user and the node: nothing is lost, nothing runs twice."""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
import time
import uuid
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest
from faults import FAULTS, GIVES_UP_S, Agent, Relay, Submitter, Trouble, frozen
from people import Researcher, c2_nodes, eventually, operator, slurmctld_has_saved

from qslurm.payload.comment import Comment

pytestmark = pytest.mark.slurm

SUBMISSIONS = int(os.environ.get("QSLURM_TEST_SUBMISSIONS", "200"))
PATIENCE_S = float(os.environ.get("QSLURM_TEST_PATIENCE", "300"))
SEED = int(os.environ.get("QSLURM_TEST_SEED", "0")) or random.randrange(1, 10**6)


@pytest.fixture
def relay(testbed):
    relay = Relay(testbed.ports["c2_slurmrestd"])
    yield relay
    relay.close()


@pytest.fixture
def agent(testbed, relay):
    for partition in ("p_qx", "p_spin2"):
        operator(testbed, "partition", "enable", partition)
    agent = Agent(testbed, relay.port)
    agent.start()
    yield agent
    agent.stop()


@pytest.fixture
def counter(testbed):
    """Each run of a job appends a line: its submission's number, and its job id."""
    path = testbed.layout.folder / f"counter-{uuid.uuid4().hex}"
    path.write_text("")
    path.chmod(0o666)
    yield path
    testbed.c2(("scancel", "--user=center_snellius"))  # what a story that went wrong has left
    path.unlink()


class User(Researcher):
    """Somebody on C1 whose commands go by the agent under fire."""

    def __init__(self, testbed, agent, counter):
        super().__init__(testbed)
        self.config = agent.folder / "users.toml"
        self.config.write_text(f'[agent]\nsocket = "{agent.socket}"\n')
        self.writes("count.sh", f"#!/bin/sh\necho 0 $SLURM_JOB_ID >> {counter}\n")

    def types(self, *words, **environment):
        return super().types(*words, **({"QSLURM_CONFIG": str(self.config)} | environment))


@pytest.fixture
def alice(testbed, agent, counter):
    return User(testbed, agent, counter)


@pytest.fixture
def pool():
    with ThreadPoolExecutor(4) as threads:
        yield threads


def runs(counter: Path) -> Counter[int]:
    return Counter(int(line.split()[0]) for line in counter.read_text().splitlines())


def outbox(agent: Agent, query: str) -> list[tuple[object, ...]]:
    connection = sqlite3.connect(f"file:{agent.outbox}?mode=ro", uri=True, timeout=30)
    try:
        return connection.execute(query).fetchall()
    finally:
        connection.close()


def completed(testbed, since: float) -> Counter[str]:
    """How often C2's accounting calls each submission completed, by its key."""
    words = ["sacct", "-nPX", "--duplicates", "--allusers", "--state=COMPLETED", "--format=Comment", "--endtime=now",
             f"--starttime={time.strftime('%Y-%m-%dT%H:%M:%S', time.localtime(since))}"]  # fmt: skip
    lines = testbed.c2(words).stdout.splitlines()
    return Counter(Comment.parse(line).key for line in lines)


def accounted(testbed, job_ids: list[int]) -> set[str]:
    """The states of these jobs in C2's accounting."""
    words = ("sacct", "-nPX", "--allusers", "--format=State", f"--jobs={','.join(map(str, job_ids))}")
    return set(testbed.c2(words).stdout.split())


def say(*words: object) -> None:
    print(time.strftime("%H:%M:%S"), *words, flush=True)


def release_held(testbed) -> None:
    """A slurmctld that was killed may have forgotten that an operator has let a job go, or go on."""
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
    trouble = Trouble(testbed, agent, SEED)
    try:
        while any(person.process.poll() is None for person in people):
            say(
                trouble.some(),
                "| submitted",
                sum(len(one.jobs()) for one in people),
                "ran",
                len(runs(counter)),
            )
        for _ in range(5):
            say(trouble.some(), "| ran", len(runs(counter)))
    finally:
        for person in people:
            person.process.kill()
            person.process.wait()
    relay.choose = lambda _: ""
    testbed.up()
    say("no more faults:", dict(trouble.done), dict(relay.done))

    def how_far() -> tuple[int, int]:
        """How many have run, and how many are not over."""
        ((left,),) = outbox(agent, "SELECT count(*) FROM submissions WHERE NOT ended")
        ran = runs(counter)
        say("ran", len(ran), "not over", left)
        assert {number: times for number, times in ran.items() if times != 1} == {}, "run more than once"
        return len(ran), left

    def has_moved(before: tuple[int, int]) -> bool:
        time.sleep(2)
        release_held(testbed)
        return how_far() != before

    def left() -> str:
        rows = outbox(agent, "SELECT number, key, state, job_id FROM submissions WHERE NOT ended LIMIT 5")
        return f"; left are {rows}\n{agent.log()[-3000:]}"

    while (before := how_far())[1]:  # on a busy host all of them take long, but there is always one more
        moved = partial(has_moved, before)
        eventually(moved, "one more to run or be over", patience_s=PATIENCE_S, seen=left)
    ran = runs(counter)
    assert {number: times for number, times in ran.items() if times != 1} == {}, "run more than once"
    # what C2 has lost three times is not sent once more, and its user is told so
    lost = {key for (key,) in outbox(agent, "SELECT key FROM submissions WHERE state = 'lost'")}
    told = {number for one in people for number, (key, _) in one.jobs().items() if key in lost}
    again = agent.log().count("lost by C2, resubmitted")
    say("sent again", again, "reported as lost, since that was the third time", len(told))
    assert set(range(SUBMISSIONS)) - ran.keys() == told, "never run"
    accepted = outbox(agent, "SELECT count(*) FROM submissions WHERE state = 'accepted'")
    assert accepted == [(SUBMISSIONS - len(told),)]
    accounted = completed(testbed, began)
    say("completed, as far as slurmctld lived to hear of it:", len(accounted))
    assert {key: times for key, times in accounted.items() if times != 1} == {}, "completed more than once"


def knows(testbed, job_id: int) -> bool:
    return testbed.c2(("scontrol", "show", "job", str(job_id))).returncode == 0


@pytest.mark.parametrize("fault", ["before", "during", "after", "late"])
def test_a_link_that_is_cut_around_the_post_costs_nothing(fault, relay, alice, counter):
    left = [fault]

    def choose(line: str) -> str:
        return left.pop() if left and line.startswith("POST") else ""

    relay.choose = choose
    done = alice.types("submit", "count.sh", "--backend", "qx", "--wait", "--json")
    assert done.returncode == 0, done.stderr
    assert relay.done[fault] == 1
    assert runs(counter) == {0: 1}


@pytest.mark.parametrize("daemon", ["slurmrestd", "slurmctld-c2", "slurmdbd"])
def test_a_daemon_that_is_frozen_for_longer_than_the_agent_waits_costs_nothing(
    daemon, testbed, alice, counter, pool
):
    with frozen(testbed, daemon):
        waiting = pool.submit(alice.types, "submit", "count.sh", "--backend", "qx", "--wait", "--json")
        time.sleep(GIVES_UP_S + 1)  # the story is that the agent's patience ends first
    done = waiting.result()
    assert done.returncode == 0, done.stderr
    assert runs(counter) == {0: 1}


def test_a_job_that_slurmctld_forgot_is_sent_again_and_its_user_waits_on(
    testbed, agent, alice, counter, pool
):
    operator(testbed, "partition", "drain", "p_qx")
    sent: list[int] = []
    while not sent or knows(testbed, sent[-1]):  # slurmctld may just have written down what it knows
        assert len(sent) < 5
        sent.append(alice.submits("count.sh", "--backend", "qx"))
        testbed.kill("slurmctld-c2")
        testbed.start("slurmctld-c2")
    job_id = sent[-1]
    waiting = pool.submit(alice.types, "wait", str(job_id))
    eventually(
        lambda: "lost by C2, resubmitted" in agent.log(), "the agent to notice"
    )  # the job may get its old id again
    operator(testbed, "partition", "enable", "p_qx")
    done = waiting.result()
    assert done.returncode == 0, done.stderr
    eventually(lambda: runs(counter)[0] == len(sent), "all of them to have run")
    assert alice.gets("results", str(job_id))["state"] == "finished"


def test_a_script_that_has_begun_is_not_begun_again_by_a_slurmctld_that_has_forgotten_it(
    testbed, alice, counter
):
    operator(testbed, "partition", "drain", "p_qx")
    job_id = alice.submits("count.sh", "--backend", "qx")
    slurmctld_has_saved(testbed, job_id)
    operator(testbed, "partition", "enable", "p_qx")
    eventually(lambda: runs(counter)[0], "the script to run")
    testbed.kill("slurmctld-c2")
    testbed.up()
    # COMPLETED if the epilog, or slurmctld, had come to saying so; else nobody knows how it ended
    assert alice.ends_as(job_id) in ("COMPLETED", "FAILED")
    assert runs(counter) == {0: 1}
    eventually(lambda: "drain" not in c2_nodes(testbed), "the node to be in service")


class Held:
    """Scripts that append to the counter, and end when they are let go."""

    def __init__(self, user: User, counter: Path) -> None:
        self._user = user
        self._go = counter.with_suffix(".go")
        user.writes(
            "held.sh",
            f"#!/bin/sh\necho 0 $SLURM_JOB_ID >> {counter}\nuntil [ -e {self._go} ]; do sleep 0.1; done\n",
        )

    def submit(self, *words: str) -> int:
        return self._user.submits("held.sh", "--backend", "qx", *words)

    def let_go(self) -> None:
        self._go.touch()

    def clean(self) -> None:
        self._go.unlink(missing_ok=True)


@pytest.fixture
def held(alice, counter):
    held = Held(alice, counter)
    yield held
    held.clean()


def test_a_cancellation_that_slurmctld_has_forgotten_is_repeated(testbed, agent, alice, counter):
    operator(testbed, "partition", "drain", "p_qx")
    job_id = alice.submits("count.sh", "--backend", "qx")
    slurmctld_has_saved(testbed, job_id)
    saved = testbed.layout.slurm_state("c2") / "job_state"
    before = saved.read_bytes()
    assert alice.types("cancel", str(job_id)).returncode == 0
    testbed.kill("slurmctld-c2")
    saved.write_bytes(before)  # as if it had not come to writing down more
    testbed.start("slurmctld-c2")
    assert waits(testbed, job_id)
    eventually(lambda: not waits(testbed, job_id), "the agent to cancel it again", seen=agent.log)
    operator(testbed, "partition", "enable", "p_qx")
    assert alice.ends_as(job_id) == "CANCELLED"
    assert not runs(counter)


def waits(testbed, job_id: int) -> bool:
    words = ("squeue", "--noheader", "--states=PENDING", "--partition=p_qx", "--format=%i")
    return str(job_id) in testbed.c2(words).stdout.split()


@pytest.fixture
def ids_given(testbed):
    """Job ids after which slurmctld goes on when the story is over, so that others' jobs get ids of their own."""
    given: list[int] = []
    yield given
    conf = testbed.layout.c2_conf
    before = conf.read_text()
    try:
        conf.write_text(f"{before}FirstJobId={max(given, default=0) + 1}\n")
        testbed.c2(("scontrol", "reconfigure"))
        words = ("sbatch", "--parsable", "--hold", "--partition=p_qx", "--chdir=/", "--wrap=true")
        testbed.c2(("scancel", testbed.c2(words, user="center_snellius").stdout.strip()))
    finally:
        conf.write_text(before)
        testbed.c2(("scontrol", "reconfigure"))


def running(testbed) -> str:
    return testbed.c2(
        ("squeue", "--noheader", "--states=RUNNING", "--partition=p_qx", "--format=%i")
    ).stdout.strip()


def test_a_job_whose_end_slurmctld_has_forgotten_gives_its_cpus_back(testbed, alice, held, counter):
    job_id = held.submit()
    eventually(lambda: runs(counter)[0], "the script to run")
    slurmctld_has_saved(testbed, job_id)
    saved = testbed.layout.slurm_state("c2") / "job_state"
    before = saved.read_bytes()
    held.let_go()
    assert alice.ends_as(job_id) == "COMPLETED"
    testbed.kill("slurmctld-c2")
    saved.write_bytes(before)  # as if it had not come to writing down more
    testbed.start("slurmctld-c2")
    assert running(testbed) == str(job_id)
    eventually(lambda: not running(testbed), "the gate to end it", patience_s=60)
    eventually(lambda: "idle" in c2_nodes(testbed), "the node's CPUs to be free")
    assert runs(counter) == {0: 1}
    assert alice.gets("results", str(job_id))["state"] == "finished"
    assert alice.ends_as(job_id) == "COMPLETED"


def test_a_slurmctld_that_has_lost_its_whole_state_costs_nothing_and_repeats_nothing(
    testbed, agent, alice, held, counter, pool, ids_given
):
    over = alice.submits("count.sh", "--backend", "qx")
    assert alice.ends_as(over) == "COMPLETED"
    cut_off = held.submit()
    eventually(lambda: runs(counter)[0] == 2, "the second to run")
    operator(testbed, "partition", "drain", "p_qx")
    waiting = [alice.submits("count.sh", "--backend", "qx") for _ in range(2)]
    ids_given += waiting
    followers = [pool.submit(alice.types, "wait", str(job_id)) for job_id in (*waiting, cut_off)]
    eventually(lambda: accounted(testbed, waiting) == {"PENDING"}, "slurmdbd to have heard of them")
    testbed.kill("slurmctld-c2")
    for path in testbed.layout.slurm_state("c2").iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    testbed.start("slurmctld-c2")  # it gives the same job ids again, from 1
    eventually(
        lambda: agent.log().count("lost by C2, resubmitted") == 2, "the agent to notice", seen=agent.log
    )
    operator(testbed, "partition", "enable", "p_qx")
    *sent_again, lost = [follower.result() for follower in followers]
    assert [done.returncode for done in sent_again] == [0, 0], sent_again
    assert (lost.returncode, "Slurm no longer knows the job" in lost.stderr) == (6, True), lost
    assert runs(counter) == {0: 4}
    states = [alice.gets("results", str(job_id))["state"] for job_id in (over, *waiting)]
    assert states == ["finished"] * 3
    assert alice.types("results", str(cut_off)).returncode == 6


def test_a_job_that_c2_loses_a_third_time_is_reported_and_not_sent_again(
    testbed, agent, alice, counter, ids_given
):
    operator(testbed, "partition", "drain", "p_qx")
    before = alice.submits("count.sh", "--backend", "qx")
    slurmctld_has_saved(testbed, before)
    saved = testbed.layout.slurm_state("c2") / "job_state"
    without = saved.read_bytes()
    job_id = alice.submits("count.sh", "--backend", "qx")
    ids_given += [before, job_id + 3]

    def is_there():
        return outbox(agent, "SELECT 1 FROM submissions WHERE number = 2 AND state = 'accepted'")

    for times in (1, 2, 3):
        eventually(is_there, "C2 to have it", seen=agent.log)
        testbed.kill("slurmctld-c2")
        saved.write_bytes(without)
        testbed.start("slurmctld-c2")
        eventually(
            lambda times=times: agent.log().count('"lost by C2') == times,
            "the agent to notice",
            seen=agent.log,
        )
    assert agent.log().count("not resubmitted") == 1
    waited = alice.types("wait", str(job_id))
    assert (waited.returncode, "the agent gave up" in waited.stderr) == (6, True), waited.stderr
    assert alice.sees(job_id) == "FAILED"
    assert job_id in [job["job_id"] for job in alice.gets("queue", "--all")["jobs"]]
    assert alice.types("cancel", str(job_id)).returncode == 0
    operator(testbed, "partition", "enable", "p_qx")
    assert alice.ends_as(before) == "COMPLETED"
    assert runs(counter) == {0: 1}


def test_a_full_disk_is_said_and_what_was_submitted_is_run_once_there_is_room(testbed, relay, counter):
    operator(testbed, "partition", "enable", "p_qx")
    agent = Agent(testbed, relay.port, room="8m")
    agent.start()
    try:
        alice = User(testbed, agent, counter)
        before = alice.submits("count.sh", "--backend", "qx")
        with agent.full_disk():
            refused = alice.types("submit", "count.sh", "--backend", "qx")
            assert refused.returncode == 1
            assert "disk of the center's agent is full; the job was not submitted" in refused.stderr
            assert alice.gets("show", str(before))["job_id"] == before
            agent.kill()
        agent.start()
        after = alice.submits("count.sh", "--backend", "qx")
        for job_id in (before, after):
            assert alice.ends_as(job_id) == "COMPLETED"
        assert runs(counter) == {0: 2}
    finally:
        agent.stop()
