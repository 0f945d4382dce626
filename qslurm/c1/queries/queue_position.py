"""The center's jobs with their queue positions, from the cheapest source."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qslurm.errors import UnknownJobError, UnreachableError

if TYPE_CHECKING:
    from qslurm.c1.connection.center_connection import CenterConnection
    from qslurm.slurm.job_info import JobInfo

Positions = list[tuple["JobInfo", "int | None"]]


def queue_with_positions(center: CenterConnection) -> Positions:
    """The center's jobs, or the user's through an agent, with their queue positions.

    C2's job manager knows the positions among the jobs of all centers. slurmrestd's list is large and slow, and gives
    positions only among the jobs that C2 shows to this center.
    """
    if center.has_job_manager:
        try:
            found = center.job_manager.queue()
        except (UnreachableError, UnknownJobError):  # it has no view of the queue, or is an older version
            pass
        else:
            places = dict(found.places)
            return [(job, places.get(job.job_id)) for job in found.jobs]
    return _of_slurmrestd(center)


def _of_slurmrestd(center: CenterConnection) -> Positions:
    from qslurm.protocol.partition_queue import queue_positions

    known, user = center.slurm.jobs(), center.slurm.user
    by_id = queue_positions(known)
    return [(job, by_id.get(job.job_id)) for job in known if job.user == user]
