"""C2 runs each submission once, whatever fails between a user and the node: nothing is lost, nothing runs twice."""

from __future__ import annotations

import os
import random
import sqlite3
import time
import uuid
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from faults import FAULTS, GIVES_UP_S, Agent, Relay, Submitter, Trouble, frozen
from people import Researcher, c2_nodes, eventually, operator, slurmctld_has_saved

from qslurm.payload.comment import Comment

pytestmark = pytest.mark.slurm

SUBMISSIONS = int(os.environ.get("QSLURM_TEST_SUBMISSIONS", "200"))
PATIENCE_S = float(os.environ.get("QSLURM_TEST_PATIENCE", "900"))
FORGOTTEN_S = 60.0  # these jobs take a second
SEED = int(os.environ.get("QSLURM_TEST_SEED", "0")) or random.randrange(1, 10**6)


@pytest.fixture
def relay(testbed):
    relay = Relay(testbed.ports["c2_slurmrestd"])
    yield relay
    relay.close()


@pytest.fixture
def agent(testbed, relay):
    operator(testbed, "partition", "enable", "p_qx")
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


def say(*words: object) -> None:
    print(time.strftime("%H:%M:%S"), *words, flush=True)


def end_forgotten(testbed, counter: Path, since: dict[int, float]) -> None:
    """Do what an operator does with jobs that slurmctld calls running, because it has forgotten that they had ended."""
    ended = {int(line.split()[1]) for line in counter.read_text().splitlines()}
    words = ("squeue", "--noheader", "--states=RUNNING", "--user=center_snellius", "--Format=JobID")
    running = {int(line) for line in testbed.c2(words).stdout.split()} & ended
    for job_id in since.keys() - running:
        del since[job_id]
    for job_id in running:
        if time.monotonic() - since.setdefault(job_id, time.monotonic()) > FORGOTTEN_S:
            say("slurmctld has forgotten the end of", job_id)
            testbed.c2(("scancel", str(job_id)))


def test_many_submissions_under_random_faults_run_once_each(testbed, relay, agent, counter):
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

    forgotten: dict[int, float] = {}

    def all_over() -> bool:
        end_forgotten(testbed, counter, forgotten)
        ((left,),) = outbox(agent, "SELECT count(*) FROM submissions WHERE NOT ended")
        ran = runs(counter)
        say("ran", len(ran), "not over", left)
        assert {number: times for number, times in ran.items() if times != 1} == {}, "run more than once"
        time.sleep(2)
        return not left

    def left() -> str:
        rows = outbox(agent, "SELECT number, key, state, job_id FROM submissions WHERE NOT ended LIMIT 5")
        return f"; left are {rows}\n{agent.log()[-3000:]}"

    eventually(all_over, "every submission to be over", patience_s=PATIENCE_S, seen=left)
    ran = runs(counter)
    assert {number: times for number, times in ran.items() if times != 1} == {}, "run more than once"
    assert set(range(SUBMISSIONS)) - ran.keys() == set(), "never run"
    assert outbox(agent, "SELECT state, count(*) FROM submissions GROUP BY 1") == [("accepted", SUBMISSIONS)]
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
    eventually(lambda: "sent again" in agent.log(), "the agent to notice")  # the job may get its old id again
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
    state = alice.ends_as(job_id)  # COMPLETED if slurmctld has written it down after all
    assert state in ("COMPLETED", "CANCELLED")
    assert runs(counter) == {0: 1}
    eventually(lambda: "drain" not in c2_nodes(testbed), "the node to be in service")


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
            assert "disk of the center's agent is full; nothing was submitted" in refused.stderr
            assert alice.gets("show", str(before))["job_id"] == before
            agent.kill()
        agent.start()
        after = alice.submits("count.sh", "--backend", "qx")
        for job_id in (before, after):
            assert alice.ends_as(job_id) == "COMPLETED"
        assert runs(counter) == {0: 2}
    finally:
        agent.stop()
