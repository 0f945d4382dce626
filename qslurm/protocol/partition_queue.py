"""Who is next in each partition, and how many there are, among the jobs of all centers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from qslurm.protocol.job_changes import Load
from qslurm.slurm.job_info import JobInfo
from qslurm.slurm.states import NOT_IN_LINE


def places(rows: Iterable[JobInfo]) -> dict[int, int]:
    """The places by job id, from 1. Slurm tries jobs by priority, then by age."""
    lines: defaultdict[str, list[tuple[int, int]]] = defaultdict(list)
    for row in rows:
        if _is_in_line(row):
            lines[row.partition].append((-row.priority, row.job_id))
    return {
        job_id: place for line in lines.values() for place, (_, job_id) in enumerate(sorted(line), start=1)
    }


def loads(rows: Iterable[JobInfo]) -> list[Load]:
    """How many jobs wait and run in each partition that has some."""
    found: dict[str, Load] = {}
    for row in rows:
        if row.is_final:
            continue
        load = found.setdefault(row.partition, Load(partition=row.partition))
        if row.state != "PENDING":
            load.running += 1
            continue
        load.waiting += 1
        load.in_line += _is_in_line(row)
    return list(found.values())


def _is_in_line(row: JobInfo) -> bool:
    return row.state == "PENDING" and row.priority != 0 and row.reason not in NOT_IN_LINE
