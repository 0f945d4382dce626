"""A bounded in-memory log of changed jobs, for clients that wait for many jobs of one user."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Sequence

from qslurm.c1.connection.agent_messages import Moved
from qslurm.slurm.job_info import JobInfo

REMEMBERED = 50_000
"""Maximum changes kept; a client that missed some re-reads everything."""

MOST_AT_ONCE = 1000
"""Maximum jobs in an answer; beyond that a full list is cheaper."""


class ChangeLog:
    """`owners` maps keys to users; `wake` is called with each user whose jobs changed.

    So many changes are `remembered`, and one answer names at most `most_at_once` jobs.
    """

    def __init__(
        self,
        owners: Callable[[Collection[str]], dict[str, str]],
        wake: Callable[[str], None],
        *,
        remembered: int = REMEMBERED,
        most_at_once: int = MOST_AT_ONCE,
    ) -> None:
        self._owners, self._wake, self._most_at_once = owners, wake, most_at_once
        self._lock = threading.Lock()
        self._changes: deque[tuple[int, str, int]] = deque(maxlen=remembered)
        # Numbers go on where an agent before us can't have come to, so that who asked it is known to have missed some.
        self._first = self._last = time.time_ns()

    def changed(self, rows: Sequence[JobInfo]) -> None:
        """Record changed jobs. Thread-safe."""
        keys = [row.marks.key for row in rows]
        owners = self._owners({key for key in keys if key})
        users = set()
        with self._lock:
            for row, key in zip(rows, keys, strict=True):
                if user := owners.get(key):
                    self._last += 1
                    self._changes.append((self._last, user, row.array_or_job_id))
                    users.add(user)
        for user in users:
            self._wake(user)

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
