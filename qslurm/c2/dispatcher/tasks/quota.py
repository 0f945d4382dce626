"""The quota of QPU-seconds of each start of a job.

The time of every execution counts, failed or not, except of one that is repeated because its quantum runtime died. A
task beyond its quota ends with its next circuit, not before: it may still send its final result.
"""

from __future__ import annotations

from qslurm.c2.config.dispatcher_section import BackendConfig
from qslurm.c2.dispatcher.tasks.task import Task
from qslurm.c2.dispatcher.tasks.task_registry import TaskRegistry
from qslurm.c2.store.task_states import TaskState, is_open
from qslurm.errors import UsedUpError
from qslurm.protocol.messages import Admit
from qslurm.reason_codes import ReasonCode

KIND = UsedUpError.kind
"""The error kind of an execution that ended because its job had no QPU-seconds left."""


def limit_s(job: Admit, backend: BackendConfig) -> float:
    """The QPU-seconds that a job may use: the smaller of its own limit and the backend's."""
    requested = None if job.envelope is None else job.envelope.qpu_seconds
    allowed = backend.qpu_limit_s or float("inf")
    return allowed if requested is None else min(requested, allowed)


def left_s(registry: TaskRegistry, task: Task) -> float:
    """The QPU-seconds that a task has left; infinite without a limit."""
    backend = registry.backends.get(task.job.backend)
    return float("inf") if backend is None else limit_s(task.job, backend) - task.qpu_seconds


def reason(registry: TaskRegistry, task: Task) -> str:
    """Why a task without QPU-seconds ends, as the beginning of a sentence."""
    return f"The job has used its {limit_s(task.job, registry.backends[task.job.backend]):g} QPU-seconds"


def end_if_used_up(registry: TaskRegistry, task: Task) -> bool:
    """End a task that wants more of its backend and has no QPU-seconds left; returns whether it did."""
    if not is_open(task.state) or left_s(registry, task) > 0:
        return False
    registry.end(task, TaskState.TIMED_OUT, f"{reason(registry, task)}.", ReasonCode.USED_UP)
    return True
