"""What squeue says of C2's jobs, and what of it is new since the last look."""

from __future__ import annotations

from qslurm.c2.slurm_commands import Slurm
from qslurm.protocol.feed import Update
from qslurm.slurm.job_info import JobInfo
from qslurm.slurm.squeue_output import Words, job_of, lines_of, words_of


class Jobs:
    """What the job manager has been told. One look at a time says what else it must hear."""

    def __init__(self, slurm: Slurm) -> None:
        self._slurm = slurm
        self._lines: dict[int, bytes] = {}
        self._rows: dict[int, JobInfo] = {}

    def look(self) -> Update | None:
        """What has changed since the last look; None if nothing has. QslurmError if Slurm does not answer."""
        lines = lines_of(self._slurm.listing())
        before = self._lines
        changed = [job_id for job_id, line in lines.items() if before.get(job_id) != line]
        gone = [job_id for job_id in before if job_id not in lines]
        rows = {job_id: self._row(job_id, lines[job_id]) for job_id in changed}
        unread = [job_id for job_id, row in rows.items() if self._is_unread(row)]
        words = words_of(self._slurm.words(unread)) if unread else {}
        for job_id in unread:
            if job_id in words:
                rows[job_id] = job_of(lines[job_id], words[job_id])
            else:  # it was forgotten between the two questions
                del rows[job_id], lines[job_id]
                gone += [job_id] if job_id in before else []
        self._lines = lines
        self._rows.update(rows)
        for job_id in gone:
            del self._rows[job_id]
        return Update(list(rows.values()), gone) if rows or gone else None

    def everything(self) -> Update:
        """All jobs of the last look."""
        return Update(list(self._rows.values()), reset=True)

    def _row(self, job_id: int, line: bytes) -> JobInfo:
        known = self._rows.get(job_id)
        if known is None:
            return job_of(line, Words())
        return job_of(line, Words(known.name, known.comment, known.admin_comment))

    def _is_unread(self, row: JobInfo) -> bool:
        """A new job, another that has its id, and one that our own hook may have cancelled, with its reason."""
        known = self._rows.get(row.job_id)
        return (
            known is None
            or known.submit != row.submit
            or (row.state == "CANCELLED" and known.state != row.state)
        )
