"""The job manager's JSON documents, from the store's records and the dispatcher's status."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from qslurm.c2.scheduling.reservations import Reservation
from qslurm.c2.store.reader import Reader
from qslurm.c2.store.task_records import TaskRecord
from qslurm.c2.store.task_states import TaskState, is_open
from qslurm.errors import NotReadyError, QslurmError
from qslurm.protocol.messages import BackendStatus


def job_document(task: TaskRecord) -> dict[str, Any]:
    """A job; times are Unix seconds."""
    names = (
        *("job_id", "restart", "key", "center", "kind", "backend", "name", "state", "reason", "slurm_state"),
        *("reason_code", "exit_code", "admitted_at", "started_at", "finished_at"),
        *("executions", "shots", "qpu_seconds", "origin"),
    )
    return {name: getattr(task, name) for name in names}


def refuse_unfinished(task: TaskRecord) -> None:
    """NotReadyError for a job that has not ended."""
    if is_open(TaskState(task.state)):
        raise NotReadyError(
            f"Job {task.job_id} has no result yet (state: {task.state}).",
            hint=f"Wait for it with `qslurm wait {task.job_id}`.",
        )
    if task.state == TaskState.WITHDRAWN:
        raise NotReadyError(
            f"Job {task.job_id} has no result yet (requeued).",
            hint=f"Wait for it with `qslurm wait {task.job_id}`.",
        )


def result_document(task: TaskRecord, reader: Reader) -> dict[str, Any]:
    """A job's result, also a partial one of a failed job.

    `counts` (by classical bits), `raw_data` and `final_result` are the store's JSON. `remarks` explain a final result,
    such as null for NaN.
    """
    base = {
        "job_id": task.job_id,
        "key": task.key,
        "kind": task.kind,
        "name": task.name,
        "state": task.state,
        "reason": task.reason,
        "reason_code": task.reason_code,
    }
    if task.kind == "script":
        return base
    if task.kind in {"hybrid", "session"}:
        return base | {
            "final_result": reader.final_result(task),
            "executions": task.executions,
            "shots": task.shots,
            "remarks": [task.reason] if task.state == TaskState.FINISHED and task.reason else [],
        }
    execution = next(iter(reader.results(task)), None)
    if execution is None:
        return base | {"counts": {}, "shots": 0, "raw_data": None}
    return base | {
        "counts": execution.counts,
        "shots": execution.shots_done,
        "raw_data": execution.raw_data,
    }


def backend_document(backend: BackendStatus) -> dict[str, Any]:
    """A backend."""
    names = (
        "name",
        "state",
        "reason",
        "since",
        "qubits",
        "max_shots",
        "default_shots",
        "queued",
        "executing",
    )
    return {name: getattr(backend, name) for name in names}


def reserved(reservations: Sequence[Reservation], backend: str, center: str) -> list[dict[str, Any]]:
    """A backend's reservations; for those of other centers the owner and reason are hidden."""
    return [
        {"begins": one.begins, "ends": one.ends, "yours": one.center == center}
        | ({"reason": one.reason} if one.center == center else {})
        for one in sorted(reservations, key=lambda one: one.begins)
        if one.backend == backend
    ]


def error_document(error: QslurmError) -> dict[str, Any]:
    """An error, as in the commands' --json output: `code` is the exit code."""
    return {
        "error": {
            "code": error.exit_code,
            "type": error.kind,
            "message": error.message,
            "hint": error.hint,
        }
    }
