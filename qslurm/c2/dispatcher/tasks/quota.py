"""How much of a backend one start of a job may use: its QPU-seconds, one of the conditions that end it.

What an execution took counts, whether it gave a result or not; a try that its quantum runtime did not survive, and
that is made good by another, does not. Nothing is ended that has all it wants: a job
that has used its last second may still hand in its final result.
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
"""The kind of an execution's error that ended because its job had no QPU-seconds left."""


def limit_s(job: Admit, backend: BackendConfig) -> float:
    """The QPU-seconds that a job may use: what it asked for, and not more than the backend allows."""
    asked = None if job.envelope is None else job.envelope.qpu_seconds
    allowed = backend.qpu_limit_s or float("inf")
    return allowed if asked is None else min(asked, allowed)


def left_s(registry: TaskRegistry, task: Task) -> float:
    """The QPU-seconds that a task has left; infinite without a limit."""
    backend = registry.backends.get(task.job.backend)
    return float("inf") if backend is None else limit_s(task.job, backend) - task.qpu_seconds


def reason(registry: TaskRegistry, task: Task) -> str:
    """Why a task ends that has none left, as the beginning of a sentence."""
    return f"The job has used its {limit_s(task.job, registry.backends[task.job.backend]):g} QPU-seconds"


def is_used_up(registry: TaskRegistry, task: Task) -> bool:
    """End a task that wants more of its backend and has nothing left; whether that was so."""
    if not is_open(task.state) or left_s(registry, task) > 0:
        return False
    registry.end(task, TaskState.TIMED_OUT, f"{reason(registry, task)}.", ReasonCode.USED_UP)
    return True
