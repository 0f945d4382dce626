"""How a start of a job has ended, from all that was said of it, in whatever order the words come, and however late.

Slurm says of a job that is over what became of it, and when that was. TaskEpilog says on the node when the batch
script ended. Neither waits for the other, and on a busy host either may be heard half a minute late: so times are
compared that were noted where it happened, never those at which the dispatcher heard of it.

One order matters: when Slurm has put a job back, and the end of its script is heard after that, the next start may
have begun already.
"""

from __future__ import annotations

from dataclasses import dataclass

from qslurm.c2.store.task_states import TaskState, slurm_end
from qslurm.reason_codes import END_UNKNOWN, ReasonCode

LOST_ENDS = (TaskState.WITHDRAWN, TaskState.CANCELLED)
"""What Slurm, or the gate, makes of a job that still runs as far as slurmctld knows, and whose script is not there."""

KILLED_S = 5.0
"""Seconds by which a script may have ended before the moment at which Slurm put back or cancelled its job, as it notes
that moment: Slurm knows whole seconds, and of a job that it put back only when its epilog was begun."""


@dataclass(frozen=True)
class SlurmEnd:
    """What Slurm says of the end: its state, reason, and when that was (Unix seconds)."""

    state: str
    at: float
    reason: str = ""
    reason_code: ReasonCode = ReasonCode.NONE


@dataclass(frozen=True)
class TaskEnd:
    """How a start has ended, and why."""

    state: TaskState
    reason: str = ""
    reason_code: ReasonCode = ReasonCode.NONE


def end_of(kind: str, slurm: SlurmEnd, script_ended: float | None) -> TaskEnd:
    """How a start has ended that had no result; `script_ended` is when its script did, None if nobody has said so."""
    state, reason = slurm_end(slurm.state), slurm.reason
    if state in LOST_ENDS and script_ended is not None and slurm.at - script_ended > KILLED_S:
        # it was over when slurmctld still took it for running: that was killed, and has forgotten how it ended
        return TaskEnd(TaskState.FAILED, END_UNKNOWN, ReasonCode.END_UNKNOWN)
    if state is TaskState.FINISHED and kind != "script":
        return TaskEnd(TaskState.FAILED, "The job ended before its result was available.", slurm.reason_code)
    if state is TaskState.FAILED and not reason:
        reason = f"The job ended on C2 with state {slurm.state}."
    return TaskEnd(state, reason, slurm.reason_code)
