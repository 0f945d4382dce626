"""Lists a user's jobs, from the outbox (owners) and the job table (states)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from qslurm.errors import QslurmError
from qslurm.protocol.job_changes import QueueListing
from qslurm.protocol.partition_queue import queue_positions
from qslurm.slurm.job_info import JobInfo
from qslurm.system.event_log import EventLog

if TYPE_CHECKING:
    from qslurm.c1.agent.job_tracker import JobTracker
    from qslurm.c1.agent.outbox import Entry, Outbox
    from qslurm.c1.connection.center_connection import CenterConnection
    from qslurm.slurm.job_info import JobInfo

log = EventLog(__name__)

LISTED = 1000
"""Maximum ended jobs, the newest; all open jobs are listed."""


def list_queue(
    user: str | None,
    outbox: Outbox,
    tracker: JobTracker,
    center: CenterConnection,
    as_job: Callable[[Entry], JobInfo | None],
) -> QueueListing:
    """The jobs of a user, or of all (None), with queue positions. `as_job` converts submissions C2 does not show."""
    rows: list[JobInfo] = []
    unseen: list[int] = []
    for number, key, job_id, ended in outbox.list_rows(user, LISTED):
        seen = tracker.jobs.tasks(job_id, key) if job_id is not None else []
        rows += seen
        if not seen and not ended:
            unseen.append(number)
    for entry in outbox.by_number(unseen):
        if job := as_job(entry):
            rows.append(job)
    place_of = _places(tracker, center)
    own = [(row.job_id, place_of[row.job_id]) for row in rows if row.job_id in place_of]
    return QueueListing(jobs=rows, places=own)


def _places(tracker: JobTracker, center: CenterConnection) -> dict[int, int]:
    """Queue positions among all centers' jobs if the job manager knows them, else among this center's."""
    if tracker.is_live:
        try:
            return dict(center.job_manager.places())
        except QslurmError as error:  # the list matters more
            log.warning("cannot read queue positions from C2", reason=error.message)
    return queue_positions(tracker.jobs.jobs())
