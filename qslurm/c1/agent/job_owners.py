"""Whose is a job of C2's? The outbox knows by its id, but an id is given again, and an array's tasks have their own."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from qslurm.c1.agent.job_identity import owned
from qslurm.errors import UnknownJobError

if TYPE_CHECKING:
    from qslurm.c1.agent.missing_jobs import MissingJobs
    from qslurm.c1.agent.outbox import Entry, Outbox
    from qslurm.c1.agent.user import User
    from qslurm.c1.connection.center import Center
    from qslurm.slurm.job_info import JobInfo

REMEMBERED = 100_000
"""Tasks of arrays of which is known whose they are."""


class JobOwners:
    """May be asked by several threads; `center` gives the connection of the one that asks."""

    def __init__(self, outbox: Outbox, missing: MissingJobs, center: Callable[[], Center]) -> None:
        self._outbox = outbox
        self._missing = missing
        self._center = center
        self._of_tasks: dict[int, str] = {}
        """The keys of arrays, by the job ids of their tasks."""

    def owned(self, user: User, job_id: int) -> Entry | None:
        """The user's submission that became this job; another's is answered as one that does not exist."""
        entry = self._outbox.of_job(job_id, None if user.admin else user.name)
        if entry is None and not user.admin:
            entry = self._of_task(job_id)
        if not user.admin and (entry is None or entry.user != user.name):
            raise UnknownJobError(f"You have no job {job_id} on C2.", hint="`qslurm queue` lists yours.")
        last = self._outbox.of_job(job_id)
        if entry and last and last.job_id == job_id == entry.job_id and last.number != entry.number:
            if entry.ended:
                raise UnknownJobError(f"Job {job_id} is another by now: C2 has given its id again.")
            self._missing.suspect(entry)
        return entry

    def refuse_another(self, job_id: int, entry: Entry | None) -> None:
        """Touch no job that has this id only because C2 has forgotten the user's and given its id again."""
        if entry is None:
            return
        try:
            tasks = self._center().slurm.tasks(job_id)
        except UnknownJobError:
            tasks = []
        if any(owned(entry, job) is None for job in tasks):
            self._missing.suspect(entry)
            raise UnknownJobError(f"Job {job_id} is another by now: C2 has given its id again.")

    def remember(self, entry: Entry, tasks: list[JobInfo]) -> None:
        """Whose an array's tasks are, which will be asked for one by one."""
        if len(self._of_tasks) > REMEMBERED:
            self._of_tasks.clear()
        self._of_tasks.update({job.job_id: entry.key for job in tasks if job.marks.key == entry.key})

    def _of_task(self, job_id: int) -> Entry | None:
        """The submission of the array that a job is a task of; the outbox knows an array's own id only."""
        key = self._of_tasks.get(job_id, "")
        if not key:
            with suppress(UnknownJobError):
                job = self._center().slurm.job(job_id)
                key = job.marks.key if job.array_job_id is not None else ""
        return self._outbox.with_key(key) if key else None
