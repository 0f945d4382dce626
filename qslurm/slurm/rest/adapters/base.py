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

    `payload` turns a canonical payload into what this version takes (InvalidInputError for what it can't
    say), `change` the fields of an update; `job` and `accounted` read a record of slurmctld's and of slurmdbd's.
    `search` is the query that narrows slurmdbd's jobs to a user's, or to those since a time (Unix seconds), as far
    as the version can. With `cancels_in_silence` the answer to a cancellation is the same whether the job was there or
    not; with `names_refused_tokens` a refused token is never mistaken for a daemon that is away.

    `beside` is the version of the same server that is asked for what this one can't: the states of partitions
    (without `has_partition_states`), to cancel one task of an array (without `cancels_tasks`), and all but
    submissions while slurmdbd is away.
    """

    version: str
    payload: Callable[[Payload], Payload]
    job: Callable[[Record], JobInfo]
    accounted: Callable[[Record], JobInfo]
    search: Callable[[str, int], str]
    cancels_in_silence: bool = False
    names_refused_tokens: bool = False
    change: Callable[[Payload], Payload] = dict
    beside: str = ""
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
