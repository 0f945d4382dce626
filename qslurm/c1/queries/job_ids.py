"""How people name a job: 12, or 12_3 for a task of an array; tuna:12 if it is of another platform than usual.

Instead of its id it may have its key, as a follow-up knows it: its id was not known yet when that was submitted.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from qslurm.errors import InvalidInputError

LAST_JOB_ID = 2**32 - 3
"""The two above it are Slurm's words for "none" and "no limit" (slurm.h: NO_VAL, INFINITE)."""

LAST_TASK = 4_000_000

_IN_A_LIST = re.compile(r"(?<=:)(?:([A-Za-z][A-Za-z0-9_-]*):)?(\d)")
"""The "tuna" and the 1 of "afterok:tuna:12:34"; and of the 34 the nothing before it, and the 3."""

KEY = re.compile(r"[0-9a-f]{32}")
"""A submission's key, as qslurm makes them."""


@dataclass(frozen=True)
class JobRef:
    """A job's id, the index of a task if it means one of an array only, and the platform if it is not the usual one.

    With a `key` the id is to be looked up.
    """

    job_id: int
    task: int | None = None
    platform: str = ""
    key: str = ""

    def __str__(self) -> str:
        name = self.key or f"{self.job_id}"
        return self.beside(name if self.task is None else f"{name}_{self.task}")

    def beside(self, shown_id: str) -> str:
        """The name of another job of this job's platform."""
        return f"{self.platform}:{shown_id}" if self.platform else shown_id


def parse_ref(text: str) -> JobRef:
    """The job that is named so; InvalidInputError for anything else. Whether there is such a platform is not looked at.

    Slurm keeps an id in 32 bits and takes a longer one for another: 2**32 + 12 for 12.
    """
    platform, colon, shown_id = text.rpartition(":")
    job_id, line, task = shown_id.partition("_")
    key = job_id if KEY.fullmatch(job_id) else ""
    good = bool(key) or (_is_number(job_id, LAST_JOB_ID) and int(job_id) > 0)
    good = good and (not line or _is_number(task, LAST_TASK))
    if not good or (colon and not platform.replace("-", "_").isidentifier()):
        several = f"; say {job_id} for all of its tasks, or one as {job_id}_1" if task.startswith("[") else ""
        raise InvalidInputError(f"{text[:40]!r} is not a job id{several}.")
    return JobRef(0 if key else int(job_id), int(task) if line else None, platform, key)


def platforms_in(dependency: str) -> set[str]:
    """The platforms that a dependency (afterok:tuna:12:13) names; "" for jobs by their id alone."""
    return {platform for platform, _ in _IN_A_LIST.findall(dependency)}


def without_platforms(dependency: str) -> str:
    """The dependency as Slurm reads it."""
    return _IN_A_LIST.sub(r"\2", dependency)


def _is_number(text: str, largest: int) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 10 and int(text) <= largest
