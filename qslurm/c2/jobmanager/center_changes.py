"""C2's jobs by center, with what has changed since when. Plain data; who asks and who tells is not its matter.

Each change has a number. Who follows says the number of the last change they know, and is given what came later: of a
job that has changed often only how it is now. A job that is gone leaves its number behind, for a while; who knows
nothing, or something too old, is given everything.
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
"""Jobs of a center that are gone and still told of."""

SLACK = 1000
"""A center's log may have so many entries more than twice what it needs."""

_CURSOR = re.compile(r"([0-9a-f]{16})\.(\d{1,18})\.(\d{1,18})")


@dataclass
class _Center:
    jobs: dict[int, JobInfo] = field(default_factory=dict)
    changed: dict[int, int] = field(default_factory=dict)
    """The number of each job's last change; of one that is gone, too."""

    log: list[tuple[int, int]] = field(default_factory=list)
    """Numbers with their jobs, in order; only a job's last one counts."""

    number: int = 0
    """Of the last change."""

    forgotten: int = 0
    """The highest number of a job that is gone and not told of any more."""


class CenterChanges:
    """What has changed for which center.

    `prefix` begins the Slurm user of each center; other users' jobs only count in line.
    """

    def __init__(self, prefix: str, kept: int = KEPT, slack: int = SLACK) -> None:
        self._prefix, self._kept, self._slack = prefix, kept, slack
        self._epoch = secrets.token_hex(8)
        self._centers: dict[str, _Center] = {}
        self.table = JobTable()
        """All jobs of all users."""

    def apply(self, update: Update) -> set[str]:
        """Take in what the gate says; the centers whose jobs have changed."""
        touched = set()
        for before, now in self.table.apply(update.rows, update.gone, reset=update.reset):
            if before is not None and (now is None or now.user != before.user):  # slurmctld gives ids again
                touched.add(self._record(before, is_gone=True))
            if now is not None:
                touched.add(self._record(now, is_gone=False))
        touched.discard("")
        for name in touched:
            _compact(self._centers[name], self._kept, self._slack)
        return touched

    def page(self, center: str, since: str, most: int = PAGE) -> ChangesPage:
        """What has changed for this center since."""
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
            elif at > base:  # who has everything from `base` on has never heard of those that went before
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
        """Number, base and whether it is begun anew. A list that is under way has all changes from its base on."""
        match = _CURSOR.fullmatch(since)
        if match and match[1] == self._epoch:
            number, base = int(match[2]), int(match[3])
            if known.forgotten <= base <= known.number and number <= known.number:
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
    """Forget what nobody needs, once it is as much as what somebody does."""
    gone = len(center.changed) - len(center.jobs)
    if gone <= 2 * kept and len(center.log) <= 2 * len(center.changed) + slack:
        return
    center.log = [(at, job_id) for at, job_id in center.log if center.changed[job_id] == at]
    too_many = gone - kept
    if too_many > 0:
        old = [entry for entry in center.log if entry[1] not in center.jobs][:too_many]
        for at, job_id in old:
            del center.changed[job_id]
            center.forgotten = at
        center.log = [entry for entry in center.log if entry[1] in center.changed]
