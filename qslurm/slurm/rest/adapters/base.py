"""The interface of an adapter."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from qslurm.slurm.job_info import JobInfo

Payload = dict[str, Any]
Record = dict[str, Any]


@dataclass(frozen=True)
class Adapter:
    """The differences of an API version of slurmrestd from the canonical form.

    `payload` converts a canonical payload (InvalidInputError for fields that the version lacks), `change` the fields of
    an update; `job` and `accounted` read a record of slurmctld and of slurmdbd. `search` is the query for slurmdbd's
    jobs of a user since a time (Unix seconds), as narrow as the version allows. With `cancels_in_silence` the response
    to a cancellation does not show whether the job existed; with `names_refused_tokens` a refused token differs from a
    daemon that is down.

    `fallback_version` is another version of the same server, for what this one lacks: the states of partitions (without
    `has_partition_states`), cancelling one array task (without `cancels_tasks`), and everything but submissions while
    slurmdbd is down.
    """

    version: str
    payload: Callable[[Payload], Payload]
    job: Callable[[Record], JobInfo]
    accounted: Callable[[Record], JobInfo]
    search: Callable[[str, int], str]
    cancels_in_silence: bool = False
    names_refused_tokens: bool = False
    change: Callable[[Payload], Payload] = dict
    fallback_version: str = ""
    has_partition_states: bool = True
    cancels_tasks: bool = True

    @property
    def control(self) -> str:
        """Prefix of slurmctld's paths."""
        return f"/slurm/{self.version}"

    @property
    def accounting(self) -> str:
        """Prefix of slurmdbd's paths."""
        return f"/slurmdb/{self.version}"


def with_numbers(source: Payload, *names: str) -> Payload:
    """A copy of the payload with these job fields as {set, infinite, number}."""
    job = dict(source["job"])
    for name in names:
        if type(job.get(name)) is int:
            job[name] = {"set": True, "infinite": False, "number": job[name]}
    return {**source, "job": job}
