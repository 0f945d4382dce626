"""How a start of a job has ended, from the reports of Slurm and of TaskEpilog, in any order and however late.

Slurm reports the final state of a job and its time. TaskEpilog reports on the node when the batch script ended. Each
report may arrive half a minute late on a busy host, so only times noted at the source are compared.

One order matters: when a job was requeued, and the end of its script is reported after that, the next start may have
begun already.
"""

from __future__ import annotations

from dataclasses import dataclass

from qslurm.c2.store.task_states import TaskState, slurm_end
from qslurm.reason_codes import END_UNKNOWN, ReasonCode

LOST_ENDS = (TaskState.WITHDRAWN, TaskState.CANCELLED)
"""The end of a job that slurmctld takes for running while its script is gone, as Slurm or the gate reports it."""

KILLED_S = 5.0
"""Seconds between the end of a script and the time at which Slurm requeued or cancelled its job: Slurm records whole
seconds, and for a requeued job the start of its epilog."""

LAUNCH_S = 5.0
"""Seconds from a job's admission within which slurmd launches its script, as a rule."""


@dataclass(frozen=True)
class SlurmEnd:
    """The end of a job as Slurm reports it; `at` in Unix seconds."""

    state: str
    at: float
    reason: str = ""
    reason_code: ReasonCode = ReasonCode.NONE


@dataclass(frozen=True)
class TaskEnd:
    """The end of a task."""

    state: TaskState
    reason: str = ""
    reason_code: ReasonCode = ReasonCode.NONE


def end_of(kind: str, slurm: SlurmEnd, script_ended: float | None) -> TaskEnd:
    """The end of a task without a result; `script_ended` is when its script ended, None if not reported."""
    state, reason = slurm_end(slurm.state), slurm.reason
    if state in LOST_ENDS and script_ended is not None and slurm.at - script_ended > KILLED_S:
        # it had ended when slurmctld still took it for running: slurmctld was killed, and lost how it ended
        return TaskEnd(TaskState.FAILED, END_UNKNOWN, ReasonCode.END_UNKNOWN)
    if state is TaskState.FINISHED and kind != "script":
        return TaskEnd(TaskState.FAILED, "The job ended before its result was available.", slurm.reason_code)
    if state is TaskState.FAILED and not reason:
        reason = f"The job ended on C2 with state {slurm.state}."
    return TaskEnd(state, reason, slurm.reason_code)


def was_cancelled_at_launch(slurm: SlurmEnd, admitted_at: float, *, began: bool) -> bool:
    """Whether a script was cancelled before it began, although Slurm calls its job completed.

    slurmd refuses to launch a job that was cancelled while it was being launched, and slurmctld takes that for the
    script's end with exit code 0 (22.05; slurmdbd has it as cancelled).
    """
    return slurm.state == "COMPLETED" and not began and slurm.at - admitted_at <= LAUNCH_S
