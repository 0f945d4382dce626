"""A bounded in-memory log of changed jobs, for clients that wait for many jobs of one user."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Hashable, Sequence

from qslurm.c1.connection.agent_messages import Moved
from qslurm.slurm.job_info import JobInfo

REMEMBERED = 50_000
"""Maximum changes kept; a client that missed some re-reads everything."""

MOST_AT_ONCE = 1000
"""Maximum jobs in an answer; beyond that a full list is cheaper."""


ENDINGS = "endings"
"""Wakes those who wait for the end of any job: one may have ended, or something begins to depend on one."""


def of_job(job_id: int) -> Hashable:
    """Wakes those who wait for this job."""
    return ("job", job_id)


def of_user(user: str) -> Hashable:
    """Wakes those who wait for any of this user's jobs."""
    return ("user", user)


class ChangeLog:
    """Wakes who waits. `owners` maps keys to users; `wake` is called with what has changed, as named above.

    So many changes are `remembered`, and one answer names at most `most_at_once` jobs.
    """

    def __init__(
        self,
        owners: Callable[[Collection[str]], dict[str, str]],
        wake: Callable[..., None],
        *,
        remembered: int = REMEMBERED,
        most_at_once: int = MOST_AT_ONCE,
    ) -> None:
        self._owners, self._wake, self._most_at_once = owners, wake, most_at_once
        self._lock = threading.Lock()
        self._changes: deque[tuple[int, str, int]] = deque(maxlen=remembered)
        # Numbers go on where an agent before us can't have come to, so that who asked it is known to have missed some.
        self._first = self._last = time.time_ns()

    def changed(self, jobs: Sequence[JobInfo]) -> None:
        """Wake those who wait for these jobs, which have changed. Any thread may call it."""
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
        self._wake(*(of_job(job.job_id) for job in jobs), *ended, *map(of_user, users))

    def since(self, number: int, user: str) -> Moved:
        """The user's jobs that changed after an answer with this number; 0 for a new client."""
        with self._lock:
            oldest = self._changes[0][0] - 1 if self._changes else self._last
            if not max(oldest, self._first) <= number <= self._last:
                return Moved(self._last, missed=True)
            jobs: set[int] = set()
            for at, whose, job_id in reversed(self._changes):
                if at <= number:
                    break
                if whose == user:
                    jobs.add(job_id)
            if len(jobs) > self._most_at_once:
                return Moved(self._last, missed=True)
            return Moved(self._last, sorted(jobs))
