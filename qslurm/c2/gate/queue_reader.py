"""Reads C2's queue by squeue: all jobs once, then those that have changed."""

from __future__ import annotations

from qslurm.c2.slurm_commands import SlurmCommands
from qslurm.protocol.feed import Update
from qslurm.slurm.job_info import JobInfo
from qslurm.slurm.job_table import JobTable
from qslurm.slurm.squeue_output import UserFields, job_of, lines_of, user_fields_of


class QueueReader:
    """C2's jobs. Lines of squeue are compared as bytes, so that only those that differ are parsed."""

    def __init__(self, slurm: SlurmCommands) -> None:
        self._slurm = slurm
        self._lines: dict[int, bytes] = {}
        self.table = JobTable()

    def read(self) -> Update | None:
        """What has changed since the last reading; None if nothing has. QslurmError if squeue fails."""
        lines = lines_of(self._slurm.listing())
        before = self._lines
        jobs = {
            job_id: self._job(job_id, line) for job_id, line in lines.items() if before.get(job_id) != line
        }
        unread = [job for job in jobs.values() if self._must_read_words(job)]
        words = user_fields_of(self._slurm.words([job.job_id for job in unread])) if unread else {}
        for job in unread:
            if job.job_id in words:
                jobs[job.job_id] = job_of(lines[job.job_id], words[job.job_id])
            else:  # slurmctld purged it between the two squeues
                del jobs[job.job_id], lines[job.job_id]
        self._lines = lines
        gone = [job_id for job_id in before if job_id not in lines]
        self.table.apply(jobs.values(), gone)
        return Update(list(jobs.values()), gone) if jobs or gone else None

    def everything(self) -> Update:
        """All jobs at the last reading."""
        return Update(self.table.jobs(), reset=True)

    def _job(self, job_id: int, line: bytes) -> JobInfo:
        known = self.table.job(job_id)
        if known is None:
            return job_of(line)
        return job_of(line, UserFields(known.name, known.comment, known.admin_comment))

    def _must_read_words(self, job: JobInfo) -> bool:
        """Whether its user-written fields may have changed: a new job, a reused id, or cancelled with our reason."""
        known = self.table.job(job.job_id)
        return (
            known is None
            or known.submit != job.submit
            or (job.state == "CANCELLED" and known.state != job.state)
        )
