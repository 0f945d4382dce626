"""Follow-up jobs held on C1, for `qslurm queue`."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from qslurm.c1.connection.center_connection import uses_agent
from qslurm.errors import QslurmError

if TYPE_CHECKING:
    from qslurm.c1.connection.center_connection import CenterConnection
    from qslurm.c1.followups.c1_queue import C1Queue, HeldFollowUp
    from qslurm.slurm.job_info import JobInfo

SQUEUE_S = 3.0
"""Time-out in seconds of C1's squeue, so that the list of C2's jobs is not delayed."""


@dataclass(frozen=True)
class FollowUpJob:
    """A C1 job held until a C2 job has ended; `then_if` is the condition."""

    job_id: int
    user: str
    follows: int
    then_if: str


def start_query(
    center: CenterConnection, find_queue: Callable[[], C1Queue | None] | None = None
) -> Callable[[Sequence[JobInfo]], list[FollowUpJob]]:
    """Query C1 in parallel with C2; the returned function lists the follow-ups of given jobs.

    It lists the user's own follow-ups, for root all; none without an agent. UnreachableError if C1's slurmctld does not
    answer.
    """
    found: list[HeldFollowUp] = []
    errors: list[QslurmError] = []

    def query() -> None:
        queue = (find_queue or _local_queue)()
        try:
            found.extend(queue.held("" if os.geteuid() == 0 else str(os.geteuid())) if queue else [])
        except QslurmError as error:
            errors.append(error)

    thread = threading.Thread(target=query, daemon=True)
    if uses_agent(center.config):
        thread.start()

    def followers(jobs: Sequence[JobInfo]) -> list[FollowUpJob]:
        if thread.ident is not None:
            thread.join()
        for error in errors:
            raise error
        return _followers_of(center, found, jobs) if found else []

    return followers


def _followers_of(
    center: CenterConnection, held: Sequence[HeldFollowUp], jobs: Sequence[JobInfo]
) -> list[FollowUpJob]:
    platform, keys = center.follow_up_platform, {one.mark.key for one in held}
    ids = {key: job.array_or_job_id for job in jobs if (key := job.marks.key) in keys}
    return [
        FollowUpJob(one.job_id, one.user, ids[one.mark.key], one.mark.condition)
        for one in held
        if one.mark.platform == platform and one.mark.key in ids
    ]


def _local_queue() -> C1Queue | None:
    """C1's queue, if this host has Slurm commands."""
    from functools import partial
    from shutil import which

    from qslurm.c1.followups.c1_queue import C1Queue, run_command
    from qslurm.c1.followups.followup_submission import clean_environment

    if not which("squeue"):
        return None
    return C1Queue(partial(run_command, limit_s=SQUEUE_S, environ=clean_environment(os.environ)))
