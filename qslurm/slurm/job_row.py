"""A job as it travels in the feed: an array without names, a tenth of slurmrestd's record.

Fields may be added at the end, with a default: who is older ignores them, who is newer does without.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import msgspec

from qslurm.payload.comment import marks_of
from qslurm.slurm.states import is_final

if TYPE_CHECKING:
    from qslurm.payload.comment import Comment
    from qslurm.slurm.rest import JobInfo


class JobRow(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One job, one task of an array, or the tasks of an array that wait and share a record.

    Times are Unix seconds, 0 for one that is not known; `start` of a waiting job is slurmctld's guess. `status` is
    the batch script's wait status (256 x exit code + signal, and 128 if it dumped core). `limit_minutes` is 0 without
    a limit. `array_job` is 0 where there is no array, `array_tasks` is one index, or "4-9%2" for those that wait.
    """

    job_id: int
    state: str
    reason: str
    partition: str
    user: str
    account: str
    qos: str
    submit: int
    start: int
    end: int
    status: int
    restarts: int
    limit_minutes: int
    array_job: int
    array_tasks: str
    priority: int
    nodes: str = ""
    name: str = ""
    comment: str = ""
    admin_comment: str = ""

    @classmethod
    def of(cls, job: JobInfo) -> JobRow:
        """A job that slurmrestd has told of."""
        start = job.expected_start_time if job.state == "PENDING" else job.start_time
        index = job.array_tasks if job.array_task_id is None else str(job.array_task_id)
        return cls(
            job_id=job.job_id,
            state=job.state,
            reason=job.reason,
            partition=job.partition,
            user=job.user,
            account=job.account,
            qos=job.qos,
            submit=job.submit_time or 0,
            start=start or 0,
            end=job.end_time or 0,
            status=256 * (job.exit_code or 0) + (job.signal or 0) + 128 * job.core_dumped,
            restarts=job.restart_count,
            limit_minutes=job.time_limit_minutes or 0,
            array_job=job.array_job_id or 0,
            array_tasks=index,
            priority=job.priority or 0,
            nodes=job.nodes,
            name=job.name,
            comment=job.comment,
            admin_comment=job.admin_comment,
        )

    @property
    def is_final(self) -> bool:
        """Whether the job is over."""
        return is_final(self.state)

    @property
    def marks(self) -> Comment:
        """What the job's comment, or C2's copy of it, says of it: key, kind, backend, origin."""
        return marks_of(self.comment, self.admin_comment)

    def info(self) -> JobInfo:
        """The job as all commands know it, as if slurmrestd had told it."""
        waits, final = self.state == "PENDING", self.is_final
        index = self.array_tasks if self.array_job else ""
        started = None if waits or not self.start else self.start
        signal = self.status & 0x7F
        return _job_info()(
            job_id=self.job_id,
            name=self.name,
            state=self.state,
            reason=self.reason,
            partition=self.partition,
            user=self.user,
            account=self.account,
            qos=self.qos,
            nodes=self.nodes,
            comment=self.comment,
            admin_comment=self.admin_comment,
            submit_time=self.submit or None,
            start_time=started,
            expected_start_time=(self.start or None) if waits else None,
            end_time=(self.end or None) if final else None,
            exit_code=self.status >> 8 if final and not signal else None,
            signal=signal if final and signal else None,
            core_dumped=final and signal != 0 and bool(self.status & 0x80),
            restart_count=self.restarts,
            time_limit_minutes=self.limit_minutes or None,
            array_job_id=self.array_job or None,
            array_task_id=int(index) if index.isdigit() else None,
            array_tasks="" if index.isdigit() else index,
            priority=self.priority,
        )


@cache
def _job_info() -> type[JobInfo]:
    """Imported when it is needed, and once: ten thousand import statements take a while, too."""
    from qslurm.slurm.rest import JobInfo

    return JobInfo
