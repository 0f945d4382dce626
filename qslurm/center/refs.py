"""How people name a job: 12, or 12_3 for a task of an array."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class JobRef:
    """A job's id, and the index of a task if it means one of an array only."""

    job_id: int
    task: int | None = None

    def __str__(self) -> str:
        return f"{self.job_id}" if self.task is None else f"{self.job_id}_{self.task}"
