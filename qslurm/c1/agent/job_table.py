"""The jobs of the center as they were seen last, for everybody who asks the agent. Plain data, behind a lock."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Iterable
from typing import TYPE_CHECKING

from qslurm.protocol.job_changes import mark
from qslurm.protocol.partition_queue import places
from qslurm.slurm.job_info import JobInfo

if TYPE_CHECKING:
    from qslurm.protocol.job_changes import Page


class JobTable:
    """All jobs that C2 tells of. A job is known by its id, and is somebody's submission only if the key is the same."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._rows: dict[int, JobInfo] = {}
        self._keys: dict[int, str] = {}
        self._tasks: defaultdict[int, set[int]] = defaultdict(set)

    def apply(self, page: Page) -> list[JobInfo]:
        """Take in what has changed; the jobs whose users must hear of it."""
        with self._lock:
            if page.reset:
                before, self._rows, self._keys = self._rows, {}, {}
                self._tasks.clear()
            else:
                before = self._rows
            for job_id in page.gone:
                self._drop(job_id)
            return [row for row in page.jobs if self._put(row, before.get(row.job_id))]

    def see(self, row: JobInfo) -> bool:
        """Take in one job; whether its users must hear of it."""
        with self._lock:
            return self._put(row, self._rows.get(row.job_id))

    def keep(self, job_ids: Iterable[int]) -> None:
        """Forget all others."""
        with self._lock:
            for job_id in self._rows.keys() - set(job_ids):
                self._drop(job_id)

    def row(self, job_id: int, key: str = "") -> JobInfo | None:
        """A job as it was seen last; with `key`, only if it is this submission's."""
        with self._lock:
            if key and self._keys.get(job_id) != key:
                return None
            return self._rows.get(job_id)

    def tasks(self, array: int, key: str) -> list[JobInfo]:
        """The tasks of an array, or the one job that is none, if they are this submission's."""
        with self._lock:
            ids = self._tasks.get(array) or {array}
            return [self._rows[job_id] for job_id in sorted(ids) if self._keys.get(job_id) == key]

    def rows(self) -> list[JobInfo]:
        """All jobs."""
        with self._lock:
            return list(self._rows.values())

    def places(self) -> dict[int, int]:
        """The place of each job that waits, among those of this center."""
        return places(self.rows())

    def _put(self, row: JobInfo, before: JobInfo | None) -> bool:
        if before is not None and _is_older(row, before):
            row = before
        self._rows[row.job_id] = row
        if before is None or _words(before) != _words(row) or row.job_id not in self._keys:
            self._keys[row.job_id] = row.marks.key
        if row.array_job:
            self._tasks[row.array_job].add(row.job_id)
        return before is None or mark(before) != mark(row)

    def _drop(self, job_id: int) -> None:
        row = self._rows.pop(job_id, None)
        self._keys.pop(job_id, None)
        if row is not None and row.array_job:
            self._tasks[row.array_job].discard(job_id)
            if not self._tasks[row.array_job]:
                del self._tasks[row.array_job]


def _is_older(row: JobInfo, known: JobInfo) -> bool:
    """Whether a job is said to be under way that is known to be over: the news are from two places, one is later."""
    same = (row.submit, row.restart_count, row.marks.key) == (
        known.submit,
        known.restart_count,
        known.marks.key,
    )
    return known.is_final and not row.is_final and same


def _words(row: JobInfo) -> tuple[str, str]:
    return row.comment, row.admin_comment
