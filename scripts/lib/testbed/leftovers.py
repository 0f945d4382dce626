"""Ends processes that an instance left: jobs without a daemon, and all others with its mark."""

from __future__ import annotations

import os
import time

from testbed import process
from testbed.layout import MARK, Layout
from testbed.process import Process


def find(layout: Layout) -> list[Process]:
    """All processes of this instance, without this one and its ancestors."""
    spared = process.with_above(os.getpid())
    return [one for one in process.everything() if one.pid not in spared and _ours(layout, one)]


def _ours(layout: Layout, one: Process) -> bool:
    environment = process.environment(one)
    if environment.get(MARK) == str(layout.folder):
        return True
    # a job's own processes have its user's environment, and what slurmd adds
    configurations = {str(layout.c1_conf), str(layout.c2_conf)}
    if environment.get("SLURM_CONF") in configurations and "SLURM_JOB_ID" in environment:
        return True
    # slurmstepd writes its title over its environment; its working folder is its spool
    return process.name(one) == "slurmstepd" and any(
        process.works_below(one, layout.spool(cluster)) for cluster in ("c1", "c2")
    )


def end_all(layout: Layout, *, timeout_s: float = 10) -> int:
    """End them until none is left; returns their number."""
    deadline = time.monotonic() + timeout_s
    count = 0
    while (found := find(layout)) and time.monotonic() < deadline:
        count += len(found)
        process.stop_all(found, 0.5)
    return count
