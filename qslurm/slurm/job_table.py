"""The jobs of a Slurm queue as last reported, in memory: kept by the gate, the job manager and the agent."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Iterable

from qslurm.slurm.job_info import JobInfo

Change = tuple[JobInfo | None, JobInfo | None]
"""A job before and after: before is None for a new job, after is None for one that is gone."""


class JobTable:
    """Jobs by id. Thread-safe.

    A job's key distinguishes it from a later job with the same id. A reported job for which `is_outdated(job, known)`
    is true is older than the known one, and is ignored.
    """

    def __init__(self, is_outdated: Callable[[JobInfo, JobInfo], bool] | None = None) -> None:
        self._is_outdated = is_outdated
        self._lock = threading.Lock()
        self._jobs: dict[int, JobInfo] = {}
        self._keys: dict[int, str] = {}
        self._tasks: defaultdict[int, set[int]] = defaultdict(set)
        self.version = 0
        """Differs after each change."""

    def apply(
        self, jobs: Iterable[JobInfo], gone: Iterable[int] = (), *, reset: bool = False
    ) -> list[Change]:
        """Add or update jobs and remove those that are gone; returns what has changed.

        With `reset`, all jobs that are not among `jobs` are gone.
        """
        with self._lock:
            known_jobs, is_outdated = self._jobs, self._is_outdated
            if reset:
                jobs = list(jobs)
                gone = known_jobs.keys() - {job.job_id for job in jobs}
            changes: list[Change] = [(self._drop(job_id), None) for job_id in gone if job_id in known_jobs]
            for job in jobs:
                known = known_jobs.get(job.job_id)
                if known == job or (known is not None and is_outdated and is_outdated(job, known)):
                    continue
                known_jobs[job.job_id] = job
                self._index(job, known)
                changes.append((known, job))
            self.version += bool(changes)
            return changes

    def job(self, job_id: int, key: str = "") -> JobInfo | None:
        """A job; with `key`, only if it has this submission key."""
        with self._lock:
            return self._jobs.get(job_id) if not key or self._key(job_id) == key else None

    def tasks(self, array: int, key: str) -> list[JobInfo]:
        """The tasks of an array, or the job if it is no array, that have this submission key."""
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

    def _index(self, job: JobInfo, known: JobInfo | None) -> None:
        if known is not None:
            if known.comment != job.comment or known.admin_comment != job.admin_comment:
                self._keys.pop(job.job_id, None)
            if known.array_job != job.array_job:
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
