"""C2's jobs by center, with numbered changes. Plain data.

A client sends the number of the last change it knows and gets the jobs that have changed since, each once and as it is
now. The ids of jobs that are gone are kept for a while. A client without a number, or with one too old, gets all jobs.
"""

from __future__ import annotations

import bisect
import re
import secrets
from dataclasses import dataclass, field

from qslurm.protocol.feed import Update
from qslurm.protocol.job_changes import ChangesPage
from qslurm.slurm.job_info import JobInfo
from qslurm.slurm.job_table import JobTable

PAGE = 5000
"""Jobs in one answer."""

KEPT = 20_000
"""Ids of jobs that are gone, which are kept for each center."""

SLACK = 1000
"""A center's log is compacted when it has this many entries more than twice those needed."""

_CURSOR = re.compile(r"([0-9a-f]{16})\.(\d{1,18})\.(\d{1,18})")


@dataclass
class _Center:
    jobs: dict[int, JobInfo] = field(default_factory=dict)
    changed: dict[int, int] = field(default_factory=dict)
    """The number of each job's last change, also of jobs that are gone."""

    log: list[tuple[int, int]] = field(default_factory=list)
    """Changes with their jobs, in order; only the last entry of a job counts."""

    number: int = 0
    """The number of the last change."""

    dropped: int = 0
    """The highest number of a job that is gone and no longer kept."""


class CenterChanges:
    """The changes of each center's jobs.

    `prefix` begins the name of each center's Slurm user; other users' jobs only count for queue positions.
    """

    def __init__(self, prefix: str, kept: int = KEPT, slack: int = SLACK) -> None:
        self._prefix, self._kept, self._slack = prefix, kept, slack
        self._epoch = secrets.token_hex(8)
        self._centers: dict[str, _Center] = {}
        self.table = JobTable()
        """All jobs of all users."""

    def apply(self, update: Update) -> set[str]:
        """Apply an update from the gate; returns the centers whose jobs have changed."""
        touched = set()
        for before, now in self.table.apply(update.rows, update.gone, reset=update.reset):
            if before is not None and (now is None or now.user != before.user):  # slurmctld has reused the id
                touched.add(self._record(before, is_gone=True))
            if now is not None:
                touched.add(self._record(now, is_gone=False))
        touched.discard("")
        for name in touched:
            _compact(self._centers[name], self._kept, self._slack)
        return touched

    def page(self, center: str, since: str, most: int = PAGE) -> ChangesPage:
        """The changes of a center's jobs since a cursor, at most `most`."""
        known = self._centers.get(center, _Center())
        number, base, reset = self._since(known, since)
        page = ChangesPage(since="", reset=reset)
        start = bisect.bisect_right(known.log, number, key=lambda entry: entry[0])
        for at, job_id in known.log[start:]:
            if known.changed.get(job_id) != at:
                continue
            if len(page.jobs) + len(page.gone) >= most:
                page.more = True
                break
            number = at
            job = known.jobs.get(job_id)
            if job is not None:
                page.jobs.append(job)
            elif at > base:  # a client with all changes since `base` never had those that went before
                page.gone.append(job_id)
        if not page.more:
            number = base = known.number
        page.since = f"{self._epoch}.{number}.{base}"
        return page

    def jobs(self, center: str) -> list[JobInfo]:
        """A center's jobs."""
        known = self._centers.get(center)
        return list(known.jobs.values()) if known else []

    def _since(self, known: _Center, since: str) -> tuple[int, int, bool]:
        """A cursor's number and base, and whether to start over. A client has all changes since the base."""
        match = _CURSOR.fullmatch(since)
        if match and match[1] == self._epoch:
            number, base = int(match[2]), int(match[3])
            if known.dropped <= base <= known.number and number <= known.number:
                return number, base, False
        return 0, known.number, True

    def _record(self, job: JobInfo, *, is_gone: bool) -> str:
        """Number a change of a job; returns its center, "" if its user belongs to none."""
        if not job.user.startswith(self._prefix):
            return ""
        name = job.user.removeprefix(self._prefix)
        center = self._centers.get(name)
        if center is None:
            center = self._centers[name] = _Center()
        if is_gone:
            del center.jobs[job.job_id]
        else:
            center.jobs[job.job_id] = job
        center.number += 1
        center.changed[job.job_id] = center.number
        center.log.append((center.number, job.job_id))
        return name


def _compact(center: _Center, kept: int, slack: int) -> None:
    """Drop entries that are not needed, once they are as many as the needed ones."""
    gone = len(center.changed) - len(center.jobs)
    if gone <= 2 * kept and len(center.log) <= 2 * len(center.changed) + slack:
        return
    center.log = [(at, job_id) for at, job_id in center.log if center.changed[job_id] == at]
    too_many = gone - kept
    if too_many > 0:
        old = [entry for entry in center.log if entry[1] not in center.jobs][:too_many]
        for at, job_id in old:
            del center.changed[job_id]
            center.dropped = at
        center.log = [entry for entry in center.log if entry[1] in center.changed]
