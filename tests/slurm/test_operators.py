"""Whatever an operator or a site's rule does to a job on C2, it runs once, and remains its user's."""

from __future__ import annotations

import shlex
import time
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from faults import Agent
from people import Researcher, eventually, operator, site_rule
from testbed import Testbed

pytestmark = pytest.mark.slurm

MARKS = "qslurm key=0123456789abcdef kind=script origin=shell:::qs_bob"
"""What a job of somebody else's says of itself."""

ON_WAITING = {
    "comment": ["update JobId={} Comment=moved_by_ops"],
    "no comment": ["update JobId={} Comment="],
    "another's marks": [f"update JobId={{}} Comment='{MARKS}'", f"update JobId={{}} AdminComment='{MARKS}'"],
    "both comments": [
        "update JobId={} Comment=moved AdminComment=watched",
        "update JobId={} Comment= AdminComment=",
    ],
    "name": ["update JobId={} JobName=renamed"],
    "partition": ["update JobId={} Partition=p_spin2"],
    "partition and back": ["update JobId={} Partition=p_spin2", "update JobId={} Partition=p_qx"],
    "priority": ["update JobId={} Priority=1"],
    "hold": ["hold {}", "release {}"],
    "uhold": ["uhold {}", "release {}"],
    "priority zero": ["update JobId={} Priority=0", "release {}"],
    "nice": ["update JobId={} Nice=100"],
    "time limit": ["update JobId={} TimeLimit=30"],
    "dependency": ["update JobId={} Dependency=afterany:{}", "update JobId={} Dependency="],
    "start time": ["update JobId={} StartTime=now+3600", "update JobId={} StartTime=now"],
    "requeue": ["update JobId={} Requeue=0"],
    "first in line": ["top {}"],
    "all at once": ["update JobId={} Comment=x JobName=y Nice=1 TimeLimit=20 Requeue=1"],
}
"""What is done to a job that waits, in scontrol's words; some of it slurmctld refuses, and that is fine, too."""

ON_RUNNING = {
    "comment": ["update JobId={} Comment=watched_by_ops"],
    "no comments": ["update JobId={} Comment= AdminComment="],
    "name": ["update JobId={} JobName=renamed"],
    "time limit": ["update JobId={} TimeLimit=30"],
    "suspend": ["suspend {}", "resume {}"],
    "requeue": ["requeue {}"],
    "comment and requeue": ["update JobId={} Comment=again", "requeue {}"],
    "requeue and hold": ["requeuehold {}"],
}
"""What is done to one that runs."""

SITE_RULES = {
    "before ours": ('job.comment = "project 7"', ""),
    "after ours": ("", 'job.comment = "project 7"'),
    "in both fields": ("", 'job.comment = "project 7"; job.admin_comment = "project 7"'),
}


class User(Researcher):
    """qs_alice, whose scripts each append a line to a file when they begin: their number, and their job's restarts."""

    def __init__(self, testbed: Testbed, environment: Mapping[str, str], folder: Path) -> None:
        super().__init__(testbed, environment=environment)
        self._counter, self._go = folder / "runs", folder / "go"
        folder.mkdir()
        folder.chmod(0o755)
        self._counter.write_text("")
        self._counter.chmod(0o666)

    def submits_numbered(self, number: int, *, stays: bool = False, options: tuple[str, ...] = ()) -> int:
        line = f"echo {number} ${{SLURM_RESTART_COUNT:-0}} >> {self._counter}\n"
        wait = f"until [ -e {self._go} ]; do sleep 0.2; done\n" if stays else ""
        name = self.writes(f"numbered-{number}.sh", f"#!/bin/sh\n{line}{wait}")
        return self.submits(name, "--backend", "qx", *options)

    def let_go(self) -> None:
        self._go.touch()

    def runs(self) -> Counter[tuple[int, int]]:
        """How often each number has begun, by its restart count."""
        lines = [line.split() for line in self._counter.read_text().splitlines()]
        return Counter((int(number), int(restart)) for number, restart in lines)

    def begun(self) -> set[int]:
        return {number for number, _ in self.runs()}

    def own(self) -> set[int]:
        return {job["job_id"] for job in self.gets("queue", "--me", "--all")["jobs"]}


@pytest.fixture(params=["agent", "token"])
def agent(request: pytest.FixtureRequest, testbed: Testbed) -> Iterator[Agent | None]:
    for partition in ("p_qx", "p_spin2"):
        operator(testbed, "partition", "enable", partition)
    if request.param == "token":
        yield None
        return
    agent = Agent(testbed, testbed.ports["c2_slurmrestd"])
    agent.start()
    yield agent
    agent.stop()


@pytest.fixture
def alice(testbed: Testbed, agent: Agent | None) -> Iterator[User]:
    environment = {} if agent is None else {"QSLURM_CONFIG": str(agent.users_config)}
    folder = testbed.layout.folder / f"operators-{uuid.uuid4().hex}"
    yield User(testbed, environment, folder)
    testbed.c2(("scancel", "--user=center_snellius"))


@dataclass
class Acts:
    """What an operator does to the user's jobs, a job for each of a table's rows."""

    testbed: Testbed
    jobs: dict[str, int]

    def do(self, table: dict[str, list[str]]) -> None:
        """Do the table's deeds, one step of each after the other."""
        first = next(iter(self.jobs.values()))
        for step in range(max(map(len, table.values()))):
            for what, words in table.items():
                if step < len(words):
                    self._scontrol(words[step].format(self.jobs[what], first))

    def _scontrol(self, words: str) -> None:
        self.testbed.c2(("scontrol", *shlex.split(words)))


def test_a_job_that_waits_runs_once_whatever_an_operator_does_to_it(
    testbed: Testbed, agent: Agent | None, alice: User
) -> None:
    for partition in ("p_qx", "p_spin2"):
        operator(testbed, "partition", "drain", partition)
    jobs = {what: alice.submits_numbered(number) for number, what in enumerate(ON_WAITING)}
    Acts(testbed, jobs).do(ON_WAITING)
    assert set(jobs.values()) <= alice.own()
    for what, job_id in jobs.items():
        assert alice.gets("show", str(job_id))["state"] == "PENDING", what
    if agent is not None:
        looked_for(agent)
    for partition in ("p_qx", "p_spin2"):
        operator(testbed, "partition", "enable", partition)
    ended = {what: alice.types("wait", str(job_id)).returncode for what, job_id in jobs.items()}
    assert ended == dict.fromkeys(jobs, 0)
    assert alice.runs() == Counter((number, 0) for number in range(len(jobs)))
    assert set(jobs.values()) <= alice.own()
    states = {what: alice.gets("results", str(job_id))["state"] for what, job_id in jobs.items()}
    assert states == dict.fromkeys(jobs, "finished")


def test_a_job_that_runs_is_not_begun_again_whatever_an_operator_does_to_it(
    testbed: Testbed, agent: Agent | None, alice: User
) -> None:
    jobs = {what: alice.submits_numbered(number, stays=True) for number, what in enumerate(ON_RUNNING)}
    eventually(lambda: len(alice.begun()) == len(jobs), "all of them to run", seen=lambda: f"{alice.runs()}")
    Acts(testbed, jobs).do(ON_RUNNING)
    assert set(jobs.values()) <= alice.own()
    requeued = {job_id for what, job_id in jobs.items() if "requeue" in what}
    eventually(lambda: requeued <= waiting(testbed), "those that were put back to wait")
    for job_id in requeued:
        testbed.c2(("scontrol", "release", str(job_id)))
        testbed.c2(("scontrol", "update", f"JobId={job_id}", "StartTime=now"))
    alice.let_go()
    ended = {what: alice.types("wait", str(job_id)).returncode for what, job_id in jobs.items()}
    assert ended == dict.fromkeys(jobs, 0)
    restarted = [number for number, job_id in enumerate(jobs.values()) if job_id in requeued]
    expected = [(number, 0) for number in range(len(jobs))] + [(number, 1) for number in restarted]
    assert alice.runs() == Counter(expected)
    assert set(jobs.values()) <= alice.own()


def test_a_user_cancels_their_jobs_whatever_is_written_on_them(testbed: Testbed, alice: User) -> None:
    jobs = {
        what: alice.submits_numbered(number, options=("--hold",)) for number, what in enumerate(ON_WAITING)
    }
    written = {
        what: ON_WAITING[what]
        for what in ("comment", "no comment", "another's marks", "both comments", "name")
    }
    Acts(testbed, jobs).do(written)
    done = alice.types("cancel", "--me")
    assert done.returncode == 0, done.stderr
    eventually(lambda: not waiting(testbed) & set(jobs.values()), "all of them to be gone")
    assert not alice.runs()


@pytest.mark.parametrize("rule", SITE_RULES)
def test_a_job_runs_once_where_a_sites_rule_writes_the_comments(
    testbed: Testbed, agent: Agent | None, alice: User, rule: str
) -> None:
    if agent is None and rule == "in both fields":
        pytest.skip("nobody but the agent knows whose such a job is")
    with site_rule(testbed, *SITE_RULES[rule]):
        held = [alice.submits_numbered(number, options=("--hold",)) for number in range(2)]
        for job_id in held:
            assert written_on(testbed, job_id) == "project 7"
        assert set(held) <= alice.own()
        if agent is not None:
            looked_for(agent)
        assert waiting(testbed) == set(held)
        assert alice.types("release", *map(str, held)).returncode == 0
        assert [alice.types("wait", str(job_id)).returncode for job_id in held] == [0, 0]
        assert alice.runs() == Counter({(0, 0): 1, (1, 0): 1})


def looked_for(agent: Agent) -> None:
    """Wait until an agent that missed a job would have sent it again."""
    from qslurm.c1.agent.reconcile import GRACE_S, PAUSE_S

    time.sleep(GRACE_S + PAUSE_S + 2)  # what is awaited is that nothing happens
    assert agent.losses() == 0


def waiting(testbed: Testbed) -> set[int]:
    words = ("squeue", "--noheader", "--states=PENDING", "--user=center_snellius", "--format=%i")
    return {int(word) for word in testbed.c2(words).stdout.split()}


def written_on(testbed: Testbed, job_id: int) -> str:
    words = ("squeue", "--noheader", f"--jobs={job_id}", "--Format=Comment:1024")
    return str(testbed.c2(words).stdout).strip()
