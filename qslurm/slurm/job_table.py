"""The jobs of a Slurm queue as they were heard of last: what gate, job manager and agent keep. In memory only."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import NamedTuple

from qslurm.slurm.job_info import JobInfo


class Change(NamedTuple):
    """A job before and now: `before` is None for a new one, `now` for one that is gone."""

    before: JobInfo | None
    now: JobInfo | None


class JobTable:
    """Jobs by their ids. Several threads may use it.

    A job's key tells it from another that Slurm gives the same id later. `is_outdated` says whether what is heard of a
    job is older than what is known of it: then it is not taken in.
    """

    def __init__(self, is_outdated: Callable[[JobInfo, JobInfo], bool] | None = None) -> None:
        self._is_outdated = is_outdated or (lambda *_: False)
        self._lock = threading.Lock()
        self._jobs: dict[int, JobInfo] = {}
        self._keys: dict[int, str] = {}
        self._tasks: defaultdict[int, set[int]] = defaultdict(set)
        self.version = 0
        """Another one after each change."""

    def apply(
        self, jobs: Iterable[JobInfo], gone: Iterable[int] = (), *, reset: bool = False
    ) -> list[Change]:
        """Take in jobs that are new or have changed, and forget those that are gone; what is other than before.

        With `reset` these jobs are all there are.
        """
        with self._lock:
            heard = {job.job_id: job for job in jobs}
            dropped = [job_id for job_id in self._jobs if job_id not in heard] if reset else gone
            changes = [Change(self._drop(job_id), None) for job_id in dropped if job_id in self._jobs]
            for job in heard.values():
                known = self._jobs.get(job.job_id)
                if known is None or (known != job and not self._is_outdated(job, known)):
                    changes.append(Change(known, job))
                    self._put(job, known)
            self.version += bool(changes)
            return changes

    def job(self, job_id: int, key: str = "") -> JobInfo | None:
        """A job; with `key`, only if it is this submission's."""
        with self._lock:
            return self._jobs.get(job_id) if not key or self._key(job_id) == key else None

    def tasks(self, array: int, key: str) -> list[JobInfo]:
        """The tasks of an array, or the one job that is none, if they are this submission's."""
        with self._lock:
            ids = self._tasks.get(array) or {array}
            return [self._jobs[job_id] for job_id in sorted(ids) if self._key(job_id) == key]

    def jobs(self) -> list[JobInfo]:
        """All jobs."""
        with self._lock:
            return list(self._jobs.values())

    def _key(self, job_id: int) -> str | None:
        if job_id in self._jobs and job_id not in self._keys:
            self._keys[job_id] = self._jobs[job_id].marks.key
        return self._keys.get(job_id)

    def _put(self, job: JobInfo, known: JobInfo | None) -> None:
        self._jobs[job.job_id] = job
        if known is not None and (known.comment, known.admin_comment) != (job.comment, job.admin_comment):
            self._keys.pop(job.job_id, None)
        if known is not None and known.array_job != job.array_job:
            self._leave_array(known)
        if job.array_job:
            self._tasks[job.array_job].add(job.job_id)

    def _drop(self, job_id: int) -> JobInfo:
        job = self._jobs.pop(job_id)
        self._keys.pop(job_id, None)
        self._leave_array(job)
        return job

    def _leave_array(self, job: JobInfo) -> None:
        if job.array_job:
            self._tasks[job.array_job].discard(job.job_id)
            if not self._tasks[job.array_job]:
                del self._tasks[job.array_job]
