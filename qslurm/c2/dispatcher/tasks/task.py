"""Tasks and executions as the dispatcher keeps them in memory."""

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
    """A circuit to execute, and how; `file` is its name in messages."""

    text: str
    shots: int
    raw_data: bool = False
    seed: int | None = None
    file: str = "circuit"

    def digest(self) -> str:
        """Identifies the execution when it is requested again."""
        return circuit_digest(self.text, self.shots, raw_data=self.raw_data, seed=self.seed)


@dataclass
class Execution:
    """One circuit of a task, queued or running. `losses` counts the quantum runtimes that ended while running it.

    `requested_at` and `began` (when it was last assigned to a runtime) are monotonic seconds.
    """

    task: int
    seq: int
    number: int
    circuit: CircuitRequest
    circuit_sha256: str
    state: ExecutionState = ExecutionState.QUEUED
    losses: int = 0
    requested_at: float = 0.0
    began: float = 0.0


@dataclass
class Task:
    """One start of one job.

    `ended` are the numbers of the executions that have an outcome, `lost` of those that ran by lane when their quantum
    runtime died. `qpu_seconds` is the time of all of them.
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
        """Whether its circuits come one after the other: a hybrid job or a session."""
        return self.job.kind in {"hybrid", "session"}

    @property
    def is_closed(self) -> bool:
        """Whether Slurm reported its end; the gate reports NODE_FAIL for jobs that it no longer finds."""
        return self.slurm_state not in {"", "NODE_FAIL"}

    def names(self) -> dict[str, str | int]:
        """Fields of log lines about it."""
        job = self.job
        return {"job": job.job_id, "restart": job.restart, "center": job.center, "backend": job.backend}

    def row(self) -> Row:
        """The task as a row of the store."""
        job, envelope = self.job, self.job.envelope
        own: dict[str, Any] = {name: getattr(self, name) for name in TASK_COLUMNS if hasattr(self, name)}
        admitted = {name: getattr(job, name) for name in TASK_COLUMNS if hasattr(job, name)}
        packed = None if envelope is None else msgspec.msgpack.encode(envelope)
        texts = {"state": str(self.state), "reason_code": str(self.reason_code)}
        return admitted | own | texts | {"envelope": packed}


def task_from_row(row: Row) -> Task:
    """A task from the store, without its executions."""
    admitted = {name: row[name] for name in Admit.__struct_fields__ if name != "envelope"}
    packed = row["envelope"]
    envelope = None if packed is None else msgspec.msgpack.decode(packed, type=Envelope)
    own = ("id", "admitted_at", "reason", "started_at", "finished_at", "slurm_state", "exit_code", "client")
    return Task(
        job=Admit(**admitted, envelope=envelope),
        state=TaskState(row["state"]),
        reason_code=ReasonCode(row["reason_code"]),
        final_result=row["final_result"],
        **{name: row[name] for name in own},
    )


def outcome_from_row(row: Row) -> Executed:
    """The outcome of an ended execution from the store."""
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
    """The reply to a step that may attach."""
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
    """The reply to a step whose task has ended."""
    kinds = {TaskState.CANCELLED: "job_cancelled", TaskState.TIMED_OUT: "timed_out"}
    if task.job.kind == "session":
        kinds[TaskState.WITHDRAWN] = "session"  # it continues when the job starts again
    reason = task.reason or f"The job has ended: {task.state}."
    return Refused(kind=kinds.get(task.state, "job_failed"), reason=reason)
