"""A job whose end slurmctld has forgotten is ended by the gate, and a job that lives never is."""

from __future__ import annotations

import random
from copy import deepcopy
from dataclasses import dataclass

import msgspec
import pytest

from qslurm.c2.config.dispatcher_section import BackendConfig
from qslurm.c2.dispatcher.tasks import hook_requests, step_sessions
from qslurm.c2.dispatcher.tasks.task_registry import TaskRegistry
from qslurm.c2.gate.rules import LONGEST_PROLOG_S, OVER_GRACE_S, StuckJobs, is_named, is_stuck
from qslurm.c2.store.store import Store
from qslurm.payload.envelope import Envelope
from qslurm.protocol.messages import (
    Admit,
    Admitted,
    Begin,
    Done,
    End,
    Finish,
    GetEnds,
    KnownEnd,
    NotAdmitted,
)
from qslurm.slurm.job_info import JobInfo

NOW = 1_000_000.0
UID = 1000
CIRCUIT = Envelope(kind="circuit", source="version 3.0", shots=1)

END = KnownEnd(
    job_id=7, restart=0, center="a", backend="qx", key="k1", admitted_at=NOW - 60, ended_at=NOW - 30
)
FORGOTTEN = JobInfo(job_id=7, state="RUNNING", partition="p_qx", start=int(NOW) - 61)


def test_a_job_whose_end_slurmctld_has_forgotten_is_ended_after_a_while() -> None:
    stuck, running = StuckJobs(), {7: FORGOTTEN}
    assert stuck.due(running, [END], NOW) == []
    assert stuck.due(running, [END], NOW + OVER_GRACE_S - 1) == []
    assert stuck.due(running, [END], NOW + OVER_GRACE_S) == [END]
    assert stuck.due({}, [END], NOW + 20) == []
    assert stuck.due(running, [END], NOW + 30) == []


@pytest.mark.parametrize(
    "change",
    [
        {"state": "COMPLETING"},
        {"restart_count": 1},
        {"partition": "cpu"},
        {"start": 0},
        {"start": END.ended_at + 1},
        {"start": END.admitted_at - LONGEST_PROLOG_S - 1},
    ],
)
def test_another_start_and_another_job_with_its_id_are_left_alone(change: dict[str, object]) -> None:
    assert is_stuck(FORGOTTEN, END)
    assert not is_stuck(msgspec.structs.replace(FORGOTTEN, **change), END)
    assert not is_stuck(None, END)


def test_a_job_is_cancelled_under_the_name_and_with_the_key_of_the_one_that_ended() -> None:
    plain, bare = (JobInfo(job_id=job_id, state="RUNNING") for job_id in (7, 13))
    task = JobInfo(job_id=11, state="RUNNING", array_job=12, array_index="3")
    assert (plain.shown_id, task.shown_id, bare.shown_id) == ("7", "12_3", "13")

    def named(job: JobInfo, key: str, ended: str) -> bool:
        return is_named(job, key, msgspec.structs.replace(END, key=ended))

    assert named(plain, "k1", "k1")
    assert named(task, "k2", "k2#3")
    assert named(bare, "", "")
    others = [(plain, "k1", "k2"), (task, "k2", "k2"), (task, "k2", "k2#4"), (bare, "", "k1")]
    assert not any(named(*other) for other in others)


@dataclass
class Job:
    """A job as slurmctld has it; `run` is what runs of it on its node, if slurmctld thinks that something does."""

    key: str
    partition: str
    kind: str
    restart: int = 0
    state: str = "PENDING"
    start: float = 0.0
    run: int = 0


class C2:
    """slurmctld, which may be killed, with the dispatcher's real task registry, one node, and a gate that looks."""

    def __init__(self, dice: random.Random) -> None:
        self.dice = dice
        self.now, self.runs, self.keys, self.chosen = NOW, 0, 0, 0
        self.known: dict[int, Job] = {}
        self.saved: dict[int, Job] = {}
        self.alive: set[int] = set()
        self.untold: list[tuple[int, Job]] = []  # ends of which an epilog is still to tell the dispatcher
        self.registry = TaskRegistry([BackendConfig(name="qx")], Store(), clock=lambda: self.now)
        self.stuck = StuckJobs()

    def some_event(self) -> None:
        often = [self.submit, self.start, self.end, self.epilog, self.wait] * 4
        self.dice.choice([*often, self.kill, self.kill, self.save, self.requeue, self.miss])()
        assert self.registry.store.commit(self.registry.changes) == ""
        self.registry.stored()
        self.registry.settled.clear()

    def look(self) -> None:
        """What the gate chooses must not be alive."""
        running = {
            job_id: JobInfo(
                job_id=job_id,
                state="RUNNING",
                partition=job.partition,
                restart_count=job.restart,
                start=int(job.start),
            )
            for job_id, job in self.known.items()
            if job.state == "RUNNING"
        }
        ends = hook_requests.ends(self.registry, GetEnds(job_ids=sorted(running))).ends
        for end in self.stuck.due(running, ends, self.now):
            job = self.known[end.job_id]
            if is_named(running[end.job_id], job.key, end):
                assert job.run not in self.alive
                self.chosen += 1
                del self.known[end.job_id]

    def one(self, state: str) -> tuple[int, Job] | None:
        found = [(job_id, job) for job_id, job in self.known.items() if job.state == state]
        return self.dice.choice(found) if found else None

    def submit(self) -> None:
        """An id that slurmctld has forgotten is given again; sometimes a submission is sent again."""
        if len(self.known) == 6:
            return
        self.keys += self.dice.random() < 0.8
        partition, kind = self.dice.choice(["p_qx", "p_qx", "cpu"]), self.dice.choice(["script", "circuit"])
        self.known[max(self.known, default=6) + 1] = Job(f"k{self.keys}", partition, kind)

    def start(self) -> None:
        if (found := self.one("PENDING")) is None:
            return
        job_id, job = found
        job.start = self.now
        self.now += self.dice.choice([0, 1, 30])
        if job.partition == "p_qx" and not self._let_in(job_id, job):
            return
        self.runs += 1
        job.state, job.run = "RUNNING", self.runs
        self.alive.add(job.run)
        if self.dice.random() < 0.5:
            self.save()

    def _let_in(self, job_id: int, job: Job) -> bool:
        script = job.kind == "script"
        admit = Admit(
            job_id=job_id, restart=job.restart, user="center_a", uid=UID, account="a", center="a", backend="qx",
            kind="script" if script else "circuit", key=job.key, envelope=None if script else CIRCUIT,
        )  # fmt: skip
        answer = hook_requests.admit(self.registry, admit, "")
        if isinstance(answer, NotAdmitted):
            del self.known[job_id]
        elif script:
            begin = Begin(job_id=job_id, restart=job.restart, launch=f"{self.runs}")
            assert step_sessions.begin(self.registry, begin, UID) == Done()
        return isinstance(answer, Admitted)

    def end(self) -> None:
        found = self.one("RUNNING")
        if found is None or found[1].run not in self.alive:
            return
        job_id, job = found
        self.alive.discard(job.run)
        if job.partition == "p_qx":
            self.untold.append((job_id, deepcopy(job)))
            if self.dice.random() < 0.5:  # TaskEpilog was not killed
                step_sessions.script_ended(self.registry, End(job_id=job_id, restart=job.restart), UID)
        del self.known[job_id]

    def epilog(self) -> None:
        """Also late, when slurmctld has been killed and has given the id away."""
        self.dice.shuffle(self.untold)
        while self.untold and self.dice.random() < 0.8:
            job_id, job = self.untold.pop()
            state = self.dice.choice(["COMPLETED", "CANCELLED", "NODE_FAIL"])
            hook_requests.finish(
                self.registry, Finish(job_id=job_id, restart=job.restart, state=state, key=job.key)
            )

    def requeue(self) -> None:
        if (found := self.one("RUNNING")) is None or found[1].partition != "p_qx":
            return
        job_id, job = found
        self.alive.discard(job.run)
        hook_requests.finish(
            self.registry, Finish(job_id=job_id, restart=job.restart, state="REQUEUED", key=job.key)
        )
        job.state, job.restart, job.run = "PENDING", job.restart + 1, 0

    def miss(self) -> None:
        """slurmctld notices after a long time that a job is not on its node."""
        for job_id, job in list(self.known.items()):
            if job.state == "RUNNING" and job.run not in self.alive:
                if job.partition == "p_qx":
                    finish = Finish(job_id=job_id, restart=job.restart, state="REQUEUED", key=job.key)
                    hook_requests.finish(self.registry, finish)
                del self.known[job_id]

    def save(self) -> None:
        self.saved = deepcopy(self.known)

    def kill(self) -> None:
        """What slurmctld does not know when it is back, slurmd ends. Sometimes it has lost all."""
        self.known = {} if self.dice.random() < 0.1 else deepcopy(self.saved)
        self.alive &= {job.run for job in self.known.values()}

    def wait(self) -> None:
        self.now += 20


def test_no_live_job_is_ever_chosen() -> None:
    chosen = 0
    for seed in range(30):
        c2 = C2(random.Random(seed))
        for _ in range(150):
            c2.some_event()
            c2.look()
            c2.now += 1
        chosen += c2.chosen
    assert chosen > 20, "the stories have too few forgotten ends"
