"""Submits one job exactly once, across failures of the connection, of C2 and of the agent."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from qslurm.errors import (
    DuplicateError,
    InvalidInputError,
    PermissionDeniedError,
    RefusedError,
    UncertainError,
)

if TYPE_CHECKING:
    from qslurm.slurm.job_info import JobInfo
    from qslurm.slurm.rest import Submitted


_ID = re.compile(r"(?<=:)[0-9]{1,10}(?![0-9])")


class C2(Protocol):
    """The part of the slurmrestd client that delivery uses."""

    def submit(self, payload: dict[str, Any]) -> Submitted:
        """Submit once; UncertainError if the outcome is unknown, DuplicateError if C2 knows the key."""
        ...

    def find_by_key(self, key: str) -> JobInfo | None:
        """The job with this key; None only if C2 certainly has none."""
        ...


def deliver(c2: C2, payload: dict[str, Any], key: str, *, maybe_sent: bool) -> Submitted:
    """Make C2 accept this submission; returns its job.

    `maybe_sent`: an earlier request may have reached C2, so the key is looked up first. A delayed request may still
    arrive after the look-up; then C2's job_submit.lua refuses the second of the two.
    RefusedError is final. After UncertainError retry with `maybe_sent`; after an UnreachableError of another kind
    nothing was sent.
    """
    if maybe_sent and (found := _found(c2, key)):
        return found
    try:
        return c2.submit(payload)
    except DuplicateError as error:
        if found := _found(c2, key):
            return found
        raise UncertainError(
            "C2 has the submission, but has not assigned a job id yet.", hint="The agent looks it up again."
        ) from error


def _found(c2: C2, key: str) -> Submitted | None:
    from qslurm.c1.queries.lost_jobs import is_forgotten
    from qslurm.slurm.rest import Submitted

    try:
        job = c2.find_by_key(key)
    except (RefusedError, InvalidInputError, PermissionDeniedError) as error:
        # the look-up was refused, not the submission
        raise UncertainError(f"Unknown whether C2 has the job: {error.message}", hint=error.hint) from error
    if job is None or is_forgotten(job):  # slurmdbd has it, slurmctld has lost it
        return None
    return Submitted(job.array_or_job_id, [], "")  # a started task has its own id


def with_present_ids(payload: dict[str, Any], now: Callable[[int], int | None]) -> dict[str, Any] | None:
    """The payload with current ids of the jobs it depends on; None while one has no id.

    A resubmitted job has another id, and Slurm starts a job whose dependency it does not know. Invalid ids are left for
    C2 to refuse.
    """
    dependency = payload["job"].get("dependency")
    if not dependency:
        return payload
    present = {number: now(int(number)) for number in _ID.findall(str(dependency))}
    if None in present.values():
        return None
    renumbered = _ID.sub(lambda found: str(present[found[0]]), str(dependency))
    return {**payload, "job": {**payload["job"], "dependency": renumbered}}
