"""Codes of reasons why a job ended or waits. Programs decide by the code, never by the sentence beside it."""

from __future__ import annotations

from enum import StrEnum


class ReasonCode(StrEnum):
    """Stored and sent to centers: the meaning of a code never changes."""

    NONE = ""
    """No program decides by this reason."""
    END_UNKNOWN = "end_unknown"
    """C2's Slurm was killed while the job ran; how it ended is unknown."""
    USED_UP = "used_up"
    """The job has used its QPU-seconds."""
    IDLE_LIMIT = "idle_limit"
    """The session had no requests for its idle limit."""


END_UNKNOWN = (
    "C2's Slurm was killed while the job ran, and wanted to run it again; how it ended is not known."
)
"""The sentence for ReasonCode.END_UNKNOWN."""
