"""Determines which user owns a job of C2, across reused ids and array tasks."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from qslurm.c1.agent.job_identity import job_of
from qslurm.errors import UnknownJobError

if TYPE_CHECKING:
    from qslurm.c1.agent.missing_jobs import MissingJobs
    from qslurm.c1.agent.outbox import Entry, Outbox
    from qslurm.c1.agent.user import User
    from qslurm.c1.connection.center_connection import CenterConnection
    from qslurm.slurm.job_info import JobInfo

REMEMBERED = 100_000
"""Maximum array tasks whose owners are cached."""


class JobOwners:
    """Finds the owners of jobs. Thread-safe; `center` returns the calling thread's connection."""

    def __init__(self, outbox: Outbox, missing: MissingJobs, center: Callable[[], CenterConnection]) -> None:
        self._outbox = outbox
        self._missing = missing
        self._center = center
        self._of_tasks: dict[int, str] = {}
        """Keys of arrays by their tasks' job ids."""

    def owned(self, user: User, job_id: int) -> Entry | None:
        """The user's submission of this job; another user's job is reported as unknown."""
        entry = self._outbox.by_job(job_id, None if user.admin else user.name)
        if entry is None and not user.admin:
            entry = self._of_task(job_id)
        if not user.admin and (entry is None or entry.user != user.name):
            raise UnknownJobError(f"You have no job {job_id} on C2.", hint="`qslurm queue` lists yours.")
        last = self._outbox.by_job(job_id)
        if entry and last and last.job_id == job_id == entry.job_id and last.number != entry.number:
            if entry.ended:
                raise reused_id(job_id)
            self._missing.suspect(entry)
        return entry

    def refuse_another(self, job_id: int, entry: Entry | None) -> None:
        """Refuse if this id was reused for another job after C2 lost the user's."""
        if entry is None:
            return
        try:
            tasks = self._center().slurm.tasks(job_id)
        except UnknownJobError:
            tasks = []
        if any(job_of(entry, job) is None for job in tasks):
            self._missing.suspect(entry)
            raise reused_id(job_id)

    def remember(self, entry: Entry, tasks: list[JobInfo]) -> None:
        """Remember the owner of an array's tasks."""
        if len(self._of_tasks) > REMEMBERED:
            self._of_tasks.clear()
        self._of_tasks.update({job.job_id: entry.key for job in tasks if job.marks.key == entry.key})

    def _of_task(self, job_id: int) -> Entry | None:
        """The submission of a task's array; the outbox knows only the array's own id."""
        key = self._of_tasks.get(job_id, "")
        if not key:
            with suppress(UnknownJobError):
                job = self._center().slurm.job(job_id)
                key = job.marks.key if job.array_job_id is not None else ""
        return self._outbox.by_key(key) if key else None


def reused_id(job_id: int) -> UnknownJobError:
    """The error for a job that C2 has lost, and whose id another job has got."""
    return UnknownJobError(f"C2 lost this job and reused its id {job_id} for another job.")
