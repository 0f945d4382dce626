"""What the job manager answers to who follows jobs, or lists them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from qslurm.slurm.job_info import JobInfo

if TYPE_CHECKING:
    from qslurm.slurm.job_info import JobInfo


class Page(msgspec.Struct, kw_only=True):
    """What has changed since. With `reset`, forget all you know first; with `more`, ask on at once."""

    since: str
    reset: bool = False
    more: bool = False
    jobs: list[JobInfo] = []
    gone: list[int] = []


class Load(msgspec.Struct, kw_only=True):
    """How many jobs of all centers wait and run in a partition; `in_line` are those that wait only for their turn."""

    partition: str
    waiting: int = 0
    in_line: int = 0
    running: int = 0


class Line(msgspec.Struct, kw_only=True):
    """Jobs, and the places in line of those that wait, as (job id, place)."""

    jobs: list[JobInfo] = []
    places: list[tuple[int, int]] = []


def mark(job: JobInfo | JobInfo) -> str:
    """What a waiting user sees of a job: when it changes, they are told."""
    return f"{job.state} {job.reason}"
