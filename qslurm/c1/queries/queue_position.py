"""The center's jobs with their queue positions, from the cheapest source."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qslurm.errors import UnknownJobError, UnreachableError

if TYPE_CHECKING:
    from qslurm.c1.connection.center_connection import CenterConnection
    from qslurm.slurm.job_info import JobInfo

Placed = list[tuple["JobInfo", "int | None"]]


def line(center: CenterConnection) -> Placed:
    """The center's jobs, or the user's through an agent, with their queue positions.

    C2's job manager has them at hand, with places among the jobs of all centers; slurmrestd's list is large and slow,
    and has places only among the jobs that C2 shows to this center.
    """
    if center.has_job_manager:
        try:
            found = center.job_manager.queue()
        except (UnreachableError, UnknownJobError):  # it does not know how the jobs are, or has no such list
            pass
        else:
            places = dict(found.places)
            return [(job, places.get(job.job_id)) for job in found.jobs]
    return _of_slurmrestd(center)


def _of_slurmrestd(center: CenterConnection) -> Placed:
    from qslurm.protocol.partition_queue import queue_positions

    known, user = center.slurm.jobs(), center.slurm.user
    by_id = queue_positions(known)
    return [(job, by_id.get(job.job_id)) for job in known if job.user == user]
