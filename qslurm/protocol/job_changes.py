"""What the job manager answers to clients that follow or list jobs."""

from __future__ import annotations

import msgspec

from qslurm.slurm.job_info import JobInfo


class ChangesPage(msgspec.Struct, kw_only=True):
    """The changes since a mark, and the next mark (`since`).

    With `reset`, discard all known jobs first. With `more`, there are further changes already. `gone` are the ids of
    jobs that C2 has forgotten.
    """

    since: str
    reset: bool = False
    more: bool = False
    jobs: list[JobInfo] = []
    gone: list[int] = []


class PartitionLoad(msgspec.Struct, kw_only=True):
    """How many jobs of all centers wait and run in a partition. `in_line` of the waiting ones could start if it were
    their turn.
    """

    partition: str
    waiting: int = 0
    in_line: int = 0
    running: int = 0


class QueueListing(msgspec.Struct, kw_only=True):
    """Jobs, and the queue positions of the waiting ones, as (job id, position)."""

    jobs: list[JobInfo] = []
    places: list[tuple[int, int]] = []


def visible_state(job: JobInfo) -> str:
    """The part of a job that waiting users see: they are notified when it changes."""
    return f"{job.state} {job.reason}"
