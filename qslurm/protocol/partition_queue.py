"""Queue positions and loads of partitions, counting the jobs of all centers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from qslurm.protocol.job_changes import PartitionLoad
from qslurm.slurm.job_info import JobInfo
from qslurm.slurm.states import NOT_IN_LINE


def queue_positions(rows: Iterable[JobInfo]) -> dict[int, int]:
    """Queue positions by job id, from 1. Slurm tries jobs by priority, then by age."""
    queues: defaultdict[str, list[tuple[int, int]]] = defaultdict(list)
    for row in rows:
        if _is_queued(row):
            queues[row.partition].append((-row.priority, row.job_id))
    return {
        job_id: position
        for queue in queues.values()
        for position, (_, job_id) in enumerate(sorted(queue), start=1)
    }


def partition_loads(rows: Iterable[JobInfo]) -> list[PartitionLoad]:
    """The load of each partition that has waiting or running jobs."""
    by_partition: dict[str, PartitionLoad] = {}
    for row in rows:
        if row.is_final:
            continue
        load = by_partition.setdefault(row.partition, PartitionLoad(partition=row.partition))
        if row.state != "PENDING":
            load.running += 1
            continue
        load.waiting += 1
        load.in_line += _is_queued(row)
    return list(by_partition.values())


def _is_queued(row: JobInfo) -> bool:
    return row.state == "PENDING" and row.priority != 0 and row.reason not in NOT_IN_LINE
