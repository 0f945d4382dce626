"""Why a job ended or waits, for programs: a code goes beside the sentence of a reason, and alone is decided by."""

from __future__ import annotations

from enum import StrEnum


class ReasonCode(StrEnum):
    """Kept in the store, and sent to centers: a code never changes its meaning, the sentence beside it may."""

    NONE = ""
    """Nobody has to decide by this reason."""
    END_UNKNOWN = "end_unknown"
    """C2's Slurm was killed while the job ran: how it ended is not known."""
    USED_UP = "used_up"
    """The job has used its QPU-seconds."""
    IDLE_LIMIT = "idle_limit"
    """Nothing was asked of the session for as long as it may be idle."""


END_UNKNOWN = (
    "C2's Slurm was killed while the job ran, and wanted to run it again; how it ended is not known."
)
"""What ReasonCode.END_UNKNOWN is told as."""
