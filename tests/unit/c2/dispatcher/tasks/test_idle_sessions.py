"""When a session that nobody uses is ended: by times that a test says."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from qslurm.c2.dispatcher.tasks import hook_requests, step_sessions
from qslurm.c2.dispatcher.tasks.idle_sessions import CONNECT_S, IdleSessions
from qslurm.c2.dispatcher.tasks.task import Task
from qslurm.c2.dispatcher.tasks.task_registry import TaskRegistry
from qslurm.c2.store.task_states import ExecutionState
from qslurm.payload.envelope import Envelope
from qslurm.protocol.messages import Admit, Attach, Execute, Executed
from tests.unit.altered import ledger_of
from tests.unit.c2.dispatcher.running import BELL

LIMIT_S = 10.0


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[TaskRegistry]:
    found: TaskRegistry = ledger_of(tmp_path)
    yield found
    found.store.close()


@pytest.fixture
def task(registry: TaskRegistry) -> Task:
    """A session's, whose client may come."""
    envelope = Envelope(kind="session", source="", session="0" * 64, idle_limit_s=LIMIT_S)
    hook_requests.admit(registry, Admit(job_id=1, restart=0, user="center_a", uid=os.getuid(), account="a", center="a",
                             backend="qx", kind="session", key="k", envelope=envelope), "")  # fmt: skip
    step_sessions.attach(registry, Attach(job_id=1, restart=0, client="c"), os.getuid())
    (found,) = registry.tasks.values()
    return found


@pytest.fixture
def idle(registry: TaskRegistry, task: Task) -> IdleSessions:
    idle = IdleSessions(registry)
    idle.begin(task.id, 0.0)
    return idle


def test_who_has_not_come_yet_has_a_minute(idle: IdleSessions, task: Task) -> None:
    idle.end_overdue(CONNECT_S - 0.1)
    assert task.state == "running"
    idle.end_overdue(CONNECT_S)
    assert (task.state, task.reason_code) == ("timed_out", "idle_limit")


def test_from_the_last_question_on_the_limit_counts(idle: IdleSessions, task: Task) -> None:
    idle.used(task.id, 1.0)
    assert idle.next_event() == 1.0 + LIMIT_S
    idle.end_overdue(0.9 + LIMIT_S)
    assert task.state == "running"
    idle.end_overdue(1.0 + LIMIT_S)
    assert task.state == "timed_out"


def test_a_circuit_is_no_idleness_however_long_it_takes_and_however_seldom_one_looks(
    registry: TaskRegistry, idle: IdleSessions, task: Task
) -> None:
    """On a busy host the dispatcher sees that a circuit executes, and the next time that it has come out."""
    idle.used(task.id, 1.0)
    assert step_sessions.execute(registry, Execute(task=task.id, seq=0, circuit=BELL, shots=1)) is None
    running = registry.next_execution("qx")
    assert running is not None
    registry.move(running, ExecutionState.RUNNING)
    idle.end_overdue(2.0)
    outcome = Executed(seq=0, shots_requested=1, shots_done=1, counts={"00": 1}, seconds=9.0)
    registry.end_execution(running, outcome)
    idle.end_overdue(500.0)
    registry.settled.clear()
    idle.end_overdue(499.9 + LIMIT_S)
    assert task.state == "running"
    idle.end_overdue(500.0 + LIMIT_S)
    assert task.state == "timed_out"
