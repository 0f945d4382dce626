"""A bounded in-memory log of changed jobs, for clients that wait for many jobs of one user."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Hashable, Sequence

from qslurm.c1.connection.agent_messages import ChangedJobs
from qslurm.slurm.job_info import JobInfo

MAX_CHANGES = 50_000
"""Maximum changes kept; a client that missed some re-reads everything."""

MAX_JOBS = 1000
"""Maximum jobs in an answer; beyond that a full list is cheaper."""


ENDINGS = "endings"
"""Notified when a job may have ended, or a C1 job begins to depend on one."""


def of_job(job_id: int) -> Hashable:
    """Notified when this job changes."""
    return ("job", job_id)


def of_user(user: str) -> Hashable:
    """Notified when any of this user's jobs changes."""
    return ("user", user)


class ChangeLog:
    """Records changes. `owners` maps keys to users; `notify` is called with what has changed, as named above.

    Keeps `max_changes`; a response has at most `max_jobs`.
    """

    def __init__(
        self,
        owners: Callable[[Collection[str]], dict[str, str]],
        notify: Callable[..., None],
        *,
        max_changes: int = MAX_CHANGES,
        max_jobs: int = MAX_JOBS,
    ) -> None:
        self._owners, self._notify, self._max_jobs = owners, notify, max_jobs
        self._lock = threading.Lock()
        self._changes: deque[tuple[int, str, int]] = deque(maxlen=max_changes)
        # higher than any number of a previous agent, whose clients have missed changes
        self._first = self._last = time.time_ns()

    def changed(self, jobs: Sequence[JobInfo]) -> None:
        """Record changed jobs and notify their clients. Thread-safe."""
        keys = [job.marks.key for job in jobs]
        owners = self._owners({key for key in keys if key})
        users = set()
        with self._lock:
            for job, key in zip(jobs, keys, strict=True):
                if user := owners.get(key):
                    self._last += 1
                    self._changes.append((self._last, user, job.array_or_job_id))
                    users.add(user)
        ended = [ENDINGS] if any(job.is_final for job in jobs) else []
        self._notify(*(of_job(job.job_id) for job in jobs), *ended, *map(of_user, users))

    def since(self, number: int, user: str) -> ChangedJobs:
        """The user's jobs that changed after the response with this number; 0 for a new client."""
        with self._lock:
            oldest = self._changes[0][0] - 1 if self._changes else self._last
            if not max(oldest, self._first) <= number <= self._last:
                return ChangedJobs(self._last, missed=True)
            jobs: set[int] = set()
            for at, whose, job_id in reversed(self._changes):
                if at <= number:
                    break
                if whose == user:
                    jobs.add(job_id)
            if len(jobs) > self._max_jobs:
                return ChangedJobs(self._last, missed=True)
            return ChangedJobs(self._last, sorted(jobs))
