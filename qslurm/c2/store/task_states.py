"""The states of tasks and executions, and the allowed transitions."""

from __future__ import annotations

from enum import StrEnum

from qslurm.errors import QslurmError


class TaskState(StrEnum):
    """A task is one start of one job."""

    ADMITTED = "admitted"
    RUNNING = "running"
    FINISHED = "finished"
    FAILED = "failed"
    CANCELLED = "cancelled"
    TIMED_OUT = "timed_out"
    WITHDRAWN = "withdrawn"
    """Slurm requeued the job; its next start is another task."""


class ExecutionState(StrEnum):
    """An execution is one circuit with its shots."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    WITHDRAWN = "withdrawn"
    """Its task ended before it did."""


_ENDS = frozenset(
    {TaskState.FINISHED, TaskState.FAILED, TaskState.CANCELLED, TaskState.TIMED_OUT, TaskState.WITHDRAWN}
)

TASK_MOVES: dict[TaskState, frozenset[TaskState]] = {
    TaskState.ADMITTED: _ENDS | {TaskState.RUNNING},
    TaskState.RUNNING: _ENDS,
    **dict.fromkeys(_ENDS, frozenset[TaskState]()),
}

EXECUTION_MOVES: dict[ExecutionState, frozenset[ExecutionState]] = {
    ExecutionState.QUEUED: frozenset({ExecutionState.RUNNING, ExecutionState.WITHDRAWN}),
    ExecutionState.RUNNING: frozenset(
        {ExecutionState.DONE, ExecutionState.FAILED, ExecutionState.WITHDRAWN, ExecutionState.QUEUED}
    ),  # back to the queue: its quantum runtime was lost
    ExecutionState.DONE: frozenset(),
    ExecutionState.FAILED: frozenset(),
    ExecutionState.WITHDRAWN: frozenset(),
}

SLURM_ENDS: dict[str, TaskState] = {
    "COMPLETED": TaskState.FINISHED,
    "CANCELLED": TaskState.CANCELLED,
    "PREEMPTED": TaskState.CANCELLED,
    "REVOKED": TaskState.CANCELLED,
    "TIMEOUT": TaskState.TIMED_OUT,
    "DEADLINE": TaskState.TIMED_OUT,
    "REQUEUED": TaskState.WITHDRAWN,
    "REQUEUE_HOLD": TaskState.WITHDRAWN,
    "REQUEUE_FED": TaskState.WITHDRAWN,
    "SPECIAL_EXIT": TaskState.WITHDRAWN,
}
"""The task state for each final state of a Slurm job (squeue(1), "JOB STATE CODES"); all others are failures."""


def is_open(state: TaskState) -> bool:
    """Whether a task in this state can still change."""
    return bool(TASK_MOVES[state])


def move_task(before: TaskState, after: TaskState) -> TaskState:
    """The new state; QslurmError if the transition is not in TASK_MOVES."""
    if after not in TASK_MOVES[before]:
        raise QslurmError(f"Invalid task transition from {before} to {after}.")
    return after


def move_execution(before: ExecutionState, after: ExecutionState) -> ExecutionState:
    """As move_task, by EXECUTION_MOVES."""
    if after not in EXECUTION_MOVES[before]:
        raise QslurmError(f"Invalid execution transition from {before} to {after}.")
    return after


def slurm_end(state: str) -> TaskState:
    """The task state for a final Slurm job state; `CANCELLED by 1001` counts as CANCELLED."""
    word = state.split(maxsplit=1)[0] if state.strip() else ""
    return SLURM_ENDS.get(word, TaskState.FAILED)
