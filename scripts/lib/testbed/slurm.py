"""Slurm's commands: whether daemons answer, nodes, accounts of the centers, running jobs."""

from __future__ import annotations

import subprocess
from collections.abc import Callable

from testbed import users
from testbed.command import checked, clean, run
from testbed.layout import Layout

IDLE = ("idle", "mix", "alloc", "comp")
"""States (sinfo %t) of a node that takes jobs."""


def controller_answers(layout: Layout, cluster: str) -> bool:
    """Whether the cluster's slurmctld answers."""
    return _ask(layout, cluster, "scontrol", "show", "partition", "--oneliner") is not None


def node_ready(layout: Layout, cluster: str) -> Callable[[], bool]:
    """A function: whether the cluster's node takes jobs. It resumes a drained node."""

    def ready() -> bool:
        state = node_state(layout, cluster)
        if state.startswith(("drain", "drng")):
            _ask(layout, cluster, "scontrol", "update", "NodeName=ALL", "State=RESUME")
        return state in IDLE

    return ready


def node_state(layout: Layout, cluster: str) -> str:
    """The node's state as `sinfo` abbreviates it; empty if slurmctld does not answer."""
    return (
        (_ask(layout, cluster, "sinfo", "--noheader", "--Node", "--format=%t") or "")
        .partition("\n")[0]
        .strip()
    )


def _ask(layout: Layout, cluster: str, *command: str) -> str | None:
    """The command's output, or None if it failed or timed out."""
    name, *words = command
    try:
        done = run(
            (layout.slurm_program(cluster, name), *words),
            environment=environment(layout, cluster),
            timeout_s=5,
        )
    except subprocess.TimeoutExpired:
        return None
    return done.stdout if done.returncode == 0 else None


def environment(layout: Layout, cluster: str) -> dict[str, str]:
    """The environment of Slurm commands for this cluster."""
    return clean(SLURM_CONF=str(layout.c1_conf if cluster == "c1" else layout.c2_conf))


def register(layout: Layout, cluster_name: str) -> None:
    """Add C2's cluster to slurmdbd, and for each center an account with its one user.

    The cluster must exist before slurmctld's first start.
    """
    c2 = environment(layout, "c2")

    def sacctmgr(*words: str) -> str:
        program = layout.slurm_program("c2", "sacctmgr")
        return checked(run([program, "--immediate", "--parsable2", "--noheader", *words], environment=c2))

    if cluster_name not in sacctmgr("show", "cluster", "format=cluster").split():
        sacctmgr("add", "cluster", cluster_name)
    known = set(sacctmgr("show", "association", "format=account,user").splitlines())
    for center, user in zip(users.CENTERS, users.CENTER_USERS, strict=True):
        if f"{center}|" not in known:
            sacctmgr("add", "account", center, f"Description=center {center}", f"Organization={center}")
        if f"{center}|{user}" not in known:
            sacctmgr("add", "user", user, f"Account={center}", f"DefaultAccount={center}")


def end_jobs(layout: Layout, cluster: str, timeout_s: float) -> None:
    """Cancel running jobs and wait for their end; pending jobs stay."""
    import time

    deadline = time.monotonic() + timeout_s
    asked: set[str] = set()
    while time.monotonic() < deadline:
        answer = _ask(layout, cluster, "squeue", "--noheader", "--all", "--states=R,CG,CF,S", "--format=%A")
        jobs = set((answer or "").split())
        if not jobs:
            return
        if jobs - asked:
            _ask(layout, cluster, "scancel", *sorted(jobs - asked))
            asked |= jobs
        time.sleep(0.05)
