"""Reconciles accepted jobs that C2 no longer shows: finds out whether they ran, and resubmits those that did not.

A slurmctld that is killed seconds after it accepted a job forgets the job and reuses its id. So submissions are
identified by key, in slurmctld, in slurmdbd and on the platform, which records each admitted job and each start. Only a
submission that none of them has run is resubmitted, under the same key: slurmctld refuses it if it has the job after
all, and the dispatcher runs only one of two. A job without a key may still be the submission's, if its comment was
overwritten (job_identity.py).
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import msgspec

from qslurm.c1.agent.job_identity import is_job_of
from qslurm.slurm.job_info import JobInfo
from qslurm.system.event_log import EventLog

if TYPE_CHECKING:
    from qslurm.c1.agent.outbox import Entry, Outbox
    from qslurm.c1.connection.center_connection import CenterConnection
    from qslurm.c1.queries.lost_jobs import Fate, Start

log = EventLog(__name__)

GRACE_S = 10.0
"""Seconds within which C2 should show an accepted job; slurmdbd learns of it seconds late."""

PAUSE_S = 10.0
"""Seconds between two checks, each of which lists all jobs of slurmctld."""

LOST = "LostByC2"
"""The reason of a missing job while it is checked or resubmitted."""

LOST_FOR_GOOD = "LostForGood"
"""The reason of a job that C2 lost too often."""

RESENT = 2
"""Maximum resubmissions, so that a persistent fault does not fill C2's queue."""

LOST_IN_PART = "LostInPart"
"""The reason of an array that C2 lost after part of it had run."""


class Reconciler:
    """Missing submissions. `resubmit` is called when there is something to resubmit; `suspect` is thread-safe."""

    def __init__(self, outbox: Outbox, resubmit: Callable[[], None]) -> None:
        self._outbox = outbox
        self._resubmit = resubmit
        self._lock = threading.Lock()
        self._since: dict[int, float] = {}
        self._checked_at = float("-inf")

    def suspect(self, number: int, now: float, *, sure: bool = False) -> None:
        """Report a submission whose job C2 does not show; `sure` if it is not merely delayed."""
        with self._lock:
            since = self._since.get(number, now)
            self._since[number] = min(since, now - GRACE_S) if sure else since

    def clear(self, number: int) -> None:
        """Report that C2 shows it."""
        if self._since:
            with self._lock:
                self._since.pop(number, None)

    def is_suspect(self, number: int) -> bool:
        """Whether C2 has not shown the submission's job for too long."""
        since = self._since.get(number)
        return since is not None and time.monotonic() - since >= GRACE_S

    def check(self, center: CenterConnection, now: float) -> list[JobInfo]:
        """Check submissions that have been missing for long; returns the jobs that have ended."""
        with self._lock:
            due = [number for number, since in self._since.items() if now - since >= GRACE_S]
        if not due or now - self._checked_at < PAUSE_S:
            return []
        self._checked_at = now
        entries = self._outbox.by_number(due)
        known = _known(center, entries)
        found = []
        for entry in entries:
            if ended := self._decide(center, entry, known[entry.key]):
                found.append(ended)
        return found

    def _decide(self, center: CenterConnection, entry: Entry, known: Sequence[JobInfo]) -> JobInfo | None:
        """Decide about one submission; its outcome, if it has ended."""
        from qslurm.c1.queries.lost_jobs import is_written_off

        if entry.ended or entry.job_id is None:
            self.clear(entry.number)
            return None
        current = next((job for job in known if job.source == "slurmctld"), None)
        if current is not None:
            self.clear(entry.number)
            if current.array_job_id is None and current.job_id != entry.job_id:  # sent twice, accepted once
                self._outbox.mark_accepted(entry.number, current.job_id, entry.answer)
            return None
        is_over = bool(known) and all(job.is_final for job in known)
        if is_over and not (_has_start_records(center, entry) and any(is_written_off(job) for job in known)):
            return self._end(entry, known[-1])
        fate, starts = _fate_on_c2(center, entry)
        if fate == "never_ran" and self._outbox.is_cancelled(entry.number):
            return self._end(entry, msgspec.structs.replace(pending_job(entry, ""), state="CANCELLED"))
        if fate == "never_ran" and entry.resent >= RESENT:
            self._outbox.mark_lost(entry.number)
            self.clear(entry.number)
            log.error(
                "lost by C2, not resubmitted",
                job=entry.job_id,
                key=entry.key,
                user=entry.user,
                times=RESENT + 1,
            )
            return lost_job(entry)
        if fate == "never_ran":
            self._outbox.mark_for_resubmission(entry.number)
            self.clear(entry.number)
            log.warning("lost by C2, resubmitted", job=entry.job_id, key=entry.key, user=entry.user)
            self._resubmit()
        elif fate == "ran":
            return self._end(entry, _ended_job(entry, starts))
        return None

    def _end(self, entry: Entry, job: JobInfo) -> JobInfo:
        self._outbox.mark_ended([entry.number])
        self.clear(entry.number)
        log.warning(
            "lost by C2, had ended", job=entry.job_id, key=entry.key, user=entry.user, state=job.state
        )
        return job


def _known(center: CenterConnection, entries: Sequence[Entry]) -> defaultdict[str, list[JobInfo]]:
    """Records of these submissions from slurmctld and slurmdbd, by key, oldest first."""
    found: defaultdict[str, list[JobInfo]] = defaultdict(list)
    slurm = center.slurm
    for key, job in _matching(entries, (job for job in slurm.jobs() if job.user == slurm.user)):
        found[key].append(job)
    if missing := [entry for entry in entries if entry.key not in found]:
        oldest = int(min(entry.created for entry in missing))
        for key, job in _matching(missing, slurm.accounted(oldest - 3600)):
            found[key].append(job)
    return found


def _matching(entries: Sequence[Entry], jobs: Iterable[JobInfo]) -> Iterator[tuple[str, JobInfo]]:
    """The jobs that belong to submissions, with their keys."""
    keys = {entry.key: entry for entry in entries}
    ids = {entry.job_id: entry for entry in entries}
    for job in jobs:
        entry = keys.get(job.marks.key) if job.marks.key else ids.get(job.array_or_job_id)
        if entry is not None and is_job_of(entry, job):
            yield entry.key, job


def _fate_on_c2(center: CenterConnection, entry: Entry) -> tuple[Fate, Sequence[Start]]:
    """The platform's records; without access, nothing proves that a job never ran."""
    from qslurm.c1.queries.lost_jobs import fate

    if not _has_start_records(center, entry):
        return "may_run", []
    starts = center.job_manager.starts(entry.key)
    return fate(starts), starts


def _has_start_records(center: CenterConnection, entry: Entry) -> bool:
    """Whether the platform has a record of its runs."""
    return center.has_job_manager and str(entry.payload["job"].get("partition", "")).startswith("p_")


def _ended_job(entry: Entry, starts: Sequence[Start]) -> JobInfo:
    from qslurm.c1.queries.lost_jobs import judged, standing

    job = judged(pending_job(entry, ""), standing(starts))
    if any("#" in str(start["key"]) for start in starts):
        return msgspec.structs.replace(job, state="FAILED", reason=LOST_IN_PART)
    return job


def lost_job(entry: Entry) -> JobInfo:
    """The record of a submission that is not resubmitted."""
    return msgspec.structs.replace(pending_job(entry, LOST_FOR_GOOD), state="FAILED")


def pending_job(entry: Entry, reason: str) -> JobInfo:
    """A submission as a pending job."""
    job = entry.payload["job"]
    return JobInfo(
        job_id=entry.job_id or 0,
        name=str(job.get("name", "")),
        state="PENDING",
        reason=reason,
        partition=str(job.get("partition", "")),
        account=str(job.get("account", "")),
        comment=str(job.get("comment", "")),
        submit=int(entry.created),
    )
