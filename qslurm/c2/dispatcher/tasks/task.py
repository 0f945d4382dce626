"""What the dispatcher keeps in memory of the jobs that run: tasks and their executions."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import msgspec

from qslurm.c2.store.statements import TASK_COLUMNS
from qslurm.c2.store.store import Row
from qslurm.c2.store.task_states import ExecutionState, TaskState
from qslurm.payload.envelope import Envelope
from qslurm.protocol.messages import Admit, Attached, Executed, Refused, circuit_digest
from qslurm.reason_codes import ReasonCode
from qslurm.runtimes.interface import BackendType


@dataclass(frozen=True)
class CircuitRequest:
    """What to execute, and how; `file` is its name in messages about it."""

    text: str
    shots: int
    raw_data: bool = False
    seed: int | None = None
    file: str = "circuit"

    def digest(self) -> str:
        """What an execution is recognised by when it is asked for again."""
        return circuit_digest(self.text, self.shots, raw_data=self.raw_data, seed=self.seed)


@dataclass
class Execution:
    """One circuit of a task, while it is under way. `losses` counts the quantum runtimes it has cost.

    `asked` is when it was asked for, `began` when the last of them was given it (monotonic seconds).
    """

    task: int
    seq: int
    number: int
    circuit: CircuitRequest
    circuit_sha256: str
    state: ExecutionState = ExecutionState.QUEUED
    losses: int = 0
    asked: float = 0.0
    began: float = 0.0


@dataclass
class Task:
    """One start of one job.

    `ended` are the numbers of the executions whose outcome the store has, `lost` of those that were under way without
    having been queued when their quantum runtime died. `qpu_seconds` is what they all took.
    """

    id: int
    job: Admit
    state: TaskState
    admitted_at: float
    reason: str = ""
    reason_code: ReasonCode = ReasonCode.NONE
    started_at: float | None = None
    finished_at: float | None = None
    slurm_state: str = ""
    exit_code: int | None = None
    client: str = ""
    final_result: str | None = None
    secret: bytes = b""
    executions: dict[int, Execution] = field(default_factory=dict)
    ended: set[int] = field(default_factory=set)
    lost: set[int] = field(default_factory=set)
    qpu_seconds: float = 0.0

    @property
    def since(self) -> float:
        """When the state began."""
        return self.finished_at or self.started_at or self.admitted_at

    @property
    def couples(self) -> bool:
        """Whether it asks for one circuit after the other: the job is hybrid, or a session."""
        return self.job.kind in {"hybrid", "session"}

    @property
    def is_closed(self) -> bool:
        """Whether Slurm has said that it is over; the gate says NODE_FAIL of jobs that it only does not see."""
        return self.slurm_state not in {"", "NODE_FAIL"}

    def names(self) -> dict[str, str | int]:
        """What lines of the log call it by."""
        job = self.job
        return {"job": job.job_id, "restart": job.restart, "center": job.center, "backend": job.backend}

    def row(self) -> Row:
        """The task as a row of the store."""
        job, envelope = self.job, self.job.envelope
        own: dict[str, Any] = {name: getattr(self, name) for name in TASK_COLUMNS if hasattr(self, name)}
        asked = {name: getattr(job, name) for name in TASK_COLUMNS if hasattr(job, name)}
        packed = None if envelope is None else msgspec.msgpack.encode(envelope)
        texts = {"state": str(self.state), "reason_code": str(self.reason_code)}
        return asked | own | texts | {"envelope": packed}


def task_from_row(row: Row) -> Task:
    """A task as the store remembers it, without its executions."""
    asked = {name: row[name] for name in Admit.__struct_fields__ if name != "envelope"}
    packed = row["envelope"]
    envelope = None if packed is None else msgspec.msgpack.decode(packed, type=Envelope)
    own = ("id", "admitted_at", "reason", "started_at", "finished_at", "slurm_state", "exit_code", "client")
    return Task(
        job=Admit(**asked, envelope=envelope),
        state=TaskState(row["state"]),
        reason_code=ReasonCode(row["reason_code"]),
        final_result=row["final_result"],
        **{name: row[name] for name in own},
    )


def outcome_from_row(row: Row) -> Executed:
    """What the store remembers of an execution that is over."""
    raw_data = row["raw_data"]
    return Executed(
        seq=row["seq"],
        shots_requested=row["shots_requested"],
        shots_done=row["shots_done"],
        counts=msgspec.json.decode(row["counts"] or "{}", type=dict[str, int]),
        seconds=row["seconds"],
        raw_data=None if raw_data is None else msgspec.json.decode(raw_data, type=list[str]),
        error=row["reason"],
        kind=row["error_kind"],
    )


def attached(
    task: Task,
    outcome: Executed | None,
    *,
    qubits: int,
    max_shots: int,
    default_shots: int,
    backend_type: BackendType | None,
) -> Attached:
    """The answer to a step that may attach."""
    return Attached(
        task=task.id,
        secret=task.secret,
        kind=task.job.kind,
        backend=task.job.backend,
        state=task.state,
        qubits=qubits,
        max_shots=max_shots,
        default_shots=default_shots,
        backend_type=backend_type,
        envelope=task.job.envelope if task.secret else None,
        reason=task.reason,
        outcome=outcome,
        final_result=task.final_result,
    )


def ended(task: Task) -> Refused:
    """What a step is told that still works for a task that has ended."""
    kinds = {TaskState.CANCELLED: "job_cancelled", TaskState.TIMED_OUT: "timed_out"}
    if task.job.kind == "session":
        kinds[TaskState.WITHDRAWN] = "session"  # it goes on when the job has started anew
    reason = task.reason or f"The job has ended: {task.state}."
    return Refused(kind=kinds.get(task.state, "job_failed"), reason=reason)
