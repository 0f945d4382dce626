"""What an adapter is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from qslurm.slurmrest.jobinfo import JobInfo

Payload = dict[str, Any]
Record = dict[str, Any]


@dataclass(frozen=True)
class Adapter:
    """How one API version of slurmrestd differs from the canonical form.

    `payload` turns a canonical payload into what this version takes (InvalidInputError for what it can't
    say); `job` and `accounted` read a record of slurmctld's and of slurmdbd's. `search` is the query that
    narrows slurmdbd's jobs to a user's, or to those since a time (Unix seconds), as far as the version can.
    """

    version: str
    payload: Callable[[Payload], Payload]
    job: Callable[[Record], JobInfo]
    accounted: Callable[[Record], JobInfo]
    search: Callable[[str, int], str]

    @property
    def control(self) -> str:
        """Where slurmctld's paths begin."""
        return f"/slurm/{self.version}"

    @property
    def accounting(self) -> str:
        """Where slurmdbd's paths begin."""
        return f"/slurmdb/{self.version}"
