"""A job that has used its QPU-seconds ends, says so, and takes nothing from its neighbours."""

from __future__ import annotations

import os
from contextlib import closing
from itertools import count

import pytest

from qslurm.c2.config.dispatcher_section import BackendConfig
from qslurm.c2.dispatcher.pool import assignment
from qslurm.c2.dispatcher.tasks import hook_requests, step_sessions
from qslurm.c2.dispatcher.tasks.task_registry import TaskRegistry
from qslurm.c2.store.store import Store
from qslurm.errors import QslurmError
from qslurm.protocol.messages import (
    Admit,
    Attach,
    Attached,
    Conclude,
    Done,
    Execute,
    Executed,
    Message,
    OrderResult,
    Refused,
)
from qslurm.runtimes.classical.dispatcher_session import DispatcherSession
from tests.unit.c2.dispatcher.running import BELL, Running, circuit_job, hybrid_job, slow_circuit
from tests.unit.waiting import until

UID = os.getuid()
SOURCE = "def execute(qi): pass\ndef finalize(m): return {}\n"
JOB_IDS = count(1)


class Platform:
    """A task registry whose time is ours, with one quantum runtime, number 7."""

    def __init__(self, store: Store | None = None, **backend: float) -> None:
        self.now = 0.0
        self.store = store or Store()
        self.registry = TaskRegistry(
            [BackendConfig(name="qx", **backend)], self.store, timer=lambda: self.now
        )  # type: ignore[arg-type]

    def attach(self, job: Admit) -> int:
        hook_requests.admit(self.registry, job, "")
        return self.attach_again(job)

    def attach_again(self, job: Admit) -> int:
        attached = step_sessions.attach(
            self.registry, Attach(job_id=job.job_id, restart=0, client="step"), UID
        )
        assert isinstance(attached, Attached)
        return attached.task

    def ask(self, task: int, seq: int) -> Message | None:
        return step_sessions.execute(self.registry, Execute(task=task, seq=seq, circuit=BELL, shots=1))

    def takes(self, seconds: float) -> None:
        """The next execution gives a result after so many seconds."""
        run = assignment.assign(self.registry, "qx", 7)
        assert run is not None
        self.now += seconds
        assignment.take_result(
            self.registry, OrderResult(runtime=7, order=run.order, shots_done=1, seconds=seconds)
        )

    def how(self, task: int) -> tuple[str, str]:
        found = self.registry.tasks[task]
        return found.state, found.reason

    def commit(self) -> None:
        assert self.store.commit(self.registry.changes) == ""
        self.registry.stored()


USED_UP = ("timed_out", "The job has used its 5 QPU-seconds.")


def test_what_wants_more_than_its_limit_is_ended() -> None:
    platform = Platform()
    task = platform.attach(hybrid_job(1, SOURCE, uid=UID, qpu_seconds=5))
    for seq in range(2):
        assert platform.ask(task, seq) is None
        platform.takes(2.5)
    assert platform.how(task) == ("running", "")
    answer = platform.ask(task, 2)
    assert isinstance(answer, Refused)
    assert answer.kind == "timed_out"
    assert platform.how(task) == USED_UP


def test_what_has_all_it_wants_may_hand_in_its_result() -> None:
    platform = Platform()
    task = platform.attach(hybrid_job(1, SOURCE, uid=UID, qpu_seconds=5))
    platform.ask(task, 0)
    platform.takes(6)
    assert isinstance(platform.ask(task, 0), Executed | None)  # known: asking for it again costs nothing
    assert step_sessions.conclude(platform.registry, Conclude(task=task, final_result="{}")) == Done()
    assert platform.how(task) == ("finished", "")


def test_what_waits_of_it_is_withdrawn_and_others_go_on() -> None:
    platform = Platform()
    task = platform.attach(hybrid_job(1, SOURCE, uid=UID, qpu_seconds=5))
    other = platform.attach(hybrid_job(2, SOURCE, uid=UID))
    for seq in range(3):
        platform.ask(task, seq)
    platform.ask(other, 0)
    platform.takes(6)
    assert platform.how(task) == USED_UP
    platform.takes(100)
    assert platform.how(other) == ("running", "")
    assert assignment.assign(platform.registry, "qx", 7) is None


@pytest.mark.parametrize("kind", ["circuit", "hybrid"])
def test_an_execution_that_takes_longer_is_cut_off_and_its_time_counts(kind: str) -> None:
    platform = Platform()
    if kind == "circuit":
        hook_requests.admit(platform.registry, circuit_job(1, uid=UID, qpu_seconds=5), "")
        task = next(iter(platform.registry.tasks))
    else:
        task = platform.attach(hybrid_job(1, SOURCE, uid=UID, qpu_seconds=5))
        platform.ask(task, 0)
    run = assignment.assign(platform.registry, "qx", 7)
    assert run is not None
    left_s, why = assignment.left_s(platform.registry, run.order)
    assert left_s == 5
    platform.now += left_s
    assignment.lost(platform.registry, 7, why, fail=True)
    assert platform.how(task) == USED_UP
    [(_, _, outcome)] = platform.registry.settled
    assert isinstance(outcome, Executed)
    assert (outcome.kind, outcome.error, outcome.seconds) == ("used_up", USED_UP[1], 5)


def test_a_circuit_that_ends_its_runtime_is_no_free_ride() -> None:
    platform = Platform()
    task = platform.attach(hybrid_job(1, SOURCE, uid=UID, qpu_seconds=5))
    platform.ask(task, 0)
    assignment.assign(platform.registry, "qx", 7)
    platform.now += 3
    assignment.lost(platform.registry, 7, "The circuit exceeded its time limit of 3 s", fail=True)
    assert platform.how(task) == ("running", "")
    platform.ask(task, 1)
    run = assignment.assign(platform.registry, "qx", 7)
    assert run is not None
    assert assignment.left_s(platform.registry, run.order)[0] == 2


def test_what_was_used_by_lane_counts() -> None:
    platform = Platform()
    task = platform.attach(hybrid_job(1, SOURCE, uid=UID, qpu_seconds=5))
    for seq in range(3):
        done = Executed(seq=seq, shots_requested=1, shots_done=1, counts={"0": 1}, seconds=2)
        platform.registry.record(task, "digest", done)
    assert isinstance(platform.ask(task, 3), Refused)
    assert platform.how(task) == USED_UP


def test_the_backends_limit_holds_for_who_asks_for_none_or_for_more() -> None:
    platform = Platform(qpu_limit_s=5.0)
    for asked in (None, 50.0):
        task = platform.attach(hybrid_job(next(JOB_IDS), SOURCE, uid=UID, qpu_seconds=asked))
        platform.ask(task, 0)
        platform.takes(5)
        platform.ask(task, 1)
        assert platform.how(task) == USED_UP


def test_a_dispatcher_that_was_killed_remembers_what_was_used() -> None:
    platform = Platform()
    job = hybrid_job(1, SOURCE, uid=UID, qpu_seconds=5)
    platform.ask(platform.attach(job), 0)
    platform.takes(5)
    platform.commit()
    again = Platform(platform.store)
    task = again.attach_again(job)
    assert isinstance(again.ask(task, 1), Refused)
    assert again.how(task) == USED_UP


def test_real_circuits_are_cut_off_by_the_queue_and_by_lane(shared: Running) -> None:
    shared.ask(circuit_job(1001, slow_circuit(24), uid=UID, shots=1, qpu_seconds=0.2))
    shared.ask(hybrid_job(1002, SOURCE, uid=UID, qpu_seconds=2.0))
    with shared.client() as client:
        step = DispatcherSession(client, 1002, 0, say=lambda _: None, lanes=True)
        with closing(step):
            until(lambda: step.execute(BELL, 10, False) and step.has_lane)
            with pytest.raises(QslurmError, match="has used its 2 QPU-seconds"):
                step.execute(slow_circuit(24), 1, False)
    reader = shared.reader()
    ended = [reader.task("a", job_id) for job_id in (1001, 1002)]
    assert [one and one.state for one in ended] == ["timed_out", "timed_out"]
    assert all(one is not None and "QPU-seconds" in one.reason for one in ended)
    assert ended[1] is not None
    assert ended[1].qpu_seconds >= 2
