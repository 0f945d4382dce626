"""Identifies jobs whose comment has lost its submission key, by id and submit time.

C2's submit plugin keeps a job's key when its comment changes. Without that plugin, or where a site's own plugin
overwrites both copies, only the id is left, which C2 reuses after a crash.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from qslurm.payload.comment import NOTE_SEPARATOR, mark_words
from qslurm.slurm.job_info import JobInfo

if TYPE_CHECKING:
    from qslurm.c1.agent.outbox import Entry, Outbox
    from qslurm.slurm.job_info import JobInfo

SKEW_S = 300.0
"""Maximum clock difference between the clusters; MUNGE and tokens tolerate no more."""


def is_job_of(entry: Entry, row: JobInfo) -> bool:
    """Whether a job shown by C2 is this submission's.

    By its key; without one, by its id if the submit times match, since C2 reuses ids. A requeued job's submit time is
    that of the requeue.
    """
    if key := row.marks.key:
        return key == entry.key
    if entry.job_id is None or (row.array_or_job_id) != entry.job_id:
        return False
    is_not_earlier = row.submit >= entry.created - SKEW_S
    is_not_later = row.restart_count > 0 or entry.accepted is None or row.submit <= entry.accepted + SKEW_S
    return not row.submit or (is_not_earlier and is_not_later)


def with_key_restored(row: JobInfo, outbox: Outbox, before: JobInfo | None = None) -> JobInfo:
    """The job, with its submission's key added if it lost it.

    `before` is the job last seen under this id.
    """
    if row.marks.key or (before is not None and _is_later(row, before)):
        return row
    entry = outbox.by_job(row.array_or_job_id)
    if entry is None or not is_job_of(entry, row):
        return row
    return msgspec.structs.replace(row, admin_comment=_marked(entry, row.admin_comment))


def job_of(entry: Entry, job: JobInfo) -> JobInfo | None:
    """The submission's job if `named` is it; else None."""
    if not is_job_of(entry, job):
        return None
    marked = job.admin_comment if job.marks.key else _marked(entry, job.admin_comment)
    return msgspec.structs.replace(job, admin_comment=marked)


def _marked(entry: Entry, admin_comment: str) -> str:
    marks = mark_words(str(entry.payload["job"].get("comment", "")))
    return marks + NOTE_SEPARATOR + admin_comment if admin_comment else marks


def is_outdated(job: JobInfo, known: JobInfo) -> bool:
    """Whether a job is reported as active that is known to have ended: reports come from two sources."""
    return (
        known.is_final
        and not job.is_final
        and (job.submit, job.restart_count) == (known.submit, known.restart_count)
        and job.marks.key == known.marks.key  # last: it parses both comments
    )


def _is_later(row: JobInfo, before: JobInfo) -> bool:
    """Whether a job was submitted after another one with the same id existed."""
    return 0 < before.submit < row.submit and row.restart_count <= before.restart_count
