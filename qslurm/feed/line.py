"""Who is next: each waiting job's place in its partition's line, among the jobs of all centers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from qslurm.feed.rows import JobRow
from qslurm.slurmrest.states import NOT_IN_LINE


def places(rows: Iterable[JobRow]) -> dict[int, int]:
    """The places by job id, from 1. Slurm tries jobs by priority, then by age."""
    lines: defaultdict[str, list[tuple[int, int]]] = defaultdict(list)
    for row in rows:
        if row.state == "PENDING" and row.priority and row.reason not in NOT_IN_LINE:
            lines[row.partition].append((-row.priority, row.job_id))
    return {
        job_id: place for line in lines.values() for place, (_, job_id) in enumerate(sorted(line), start=1)
    }
