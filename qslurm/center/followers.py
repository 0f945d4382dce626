"""The follow-ups that wait on C1 for jobs of C2, as `qslurm queue` shows them to their user."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from qslurm.center.connection import by_agent
from qslurm.payload.comment import value_in

if TYPE_CHECKING:
    from qslurm.center.connection import Center
    from qslurm.center.queue import Queue
    from qslurm.slurmrest import JobInfo

SQUEUE_S = 3.0
"""For C1's slurmctld to say what is held there; the list of C2's jobs does not wait longer for it."""


@dataclass(frozen=True)
class Follower:
    """A job that is held on C1 until one on C2 has ended; `then_if` says how that must end."""

    job_id: int
    user: str
    follows: int
    then_if: str


def followers(center: Center, jobs: Sequence[JobInfo], queue: Queue | None = None) -> list[Follower]:
    """What follows these jobs on C1: the user's own, for root all. Nothing where nobody releases follow-ups.

    UnreachableError if C1's slurmctld does not answer.
    """
    if not jobs or not by_agent(center.config) or (queue := queue or _queue_here()) is None:
        return []
    held = queue.held("" if os.geteuid() == 0 else str(os.geteuid()))
    if not held:
        return []
    platform, keys = center.follow_ups, {one.mark.key for one in held}
    ids = {
        key: job.array_job_id or job.job_id for job in jobs if (key := value_in(job.comment, "key")) in keys
    }
    return [
        Follower(one.job_id, one.user, ids[one.mark.key], one.mark.condition)
        for one in held
        if one.mark.platform == platform and one.mark.key in ids
    ]


def _queue_here() -> Queue | None:
    """C1's queue, if this host has Slurm."""
    from functools import partial
    from shutil import which

    from qslurm.center.queue import Queue, run_command

    if not which("squeue"):
        return None
    return Queue(partial(run_command, limit_s=SQUEUE_S, environ=_for_squeue(os.environ)))


def _for_squeue(environ: Mapping[str, str]) -> dict[str, str]:
    """Without what a user has set for squeue's own lists, such as SQUEUE_PARTITION."""
    return {name: value for name, value in environ.items() if not name.startswith("SQUEUE_")}
