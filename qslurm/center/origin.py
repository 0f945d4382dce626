"""Where a submission comes from: which system's job, on which cluster, of which user. A table, one entry a
system.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Origin:
    """Who submits. `system` is "slurm" (or another batch system's name) inside a job, "shell" outside one."""

    system: str
    cluster: str = ""
    job_id: str = ""
    user: str = ""
    array_task: str = ""

    def format(self) -> str:
        """As it stands in a job's comment: system:cluster:job_id[_array_task]:user."""
        job = f"{self.job_id}_{self.array_task}" if self.array_task else self.job_id
        return ":".join(_plain(part) for part in (self.system, self.cluster, job, self.user))


@dataclass(frozen=True)
class System:
    """The names of the environment variables in which a batch system tells its jobs who they are.

    Of several names the first that is set counts. `job_id` is what marks a job of this system.
    """

    name: str
    job_id: tuple[str, ...]
    cluster: tuple[str, ...] = ()
    user: tuple[str, ...] = ()
    array_task: tuple[str, ...] = ()


# sbatch(1), "OUTPUT ENVIRONMENT VARIABLES": in an array SLURM_ARRAY_JOB_ID is the id that users know.
SYSTEMS: tuple[System, ...] = (
    System(
        "slurm",
        job_id=("SLURM_ARRAY_JOB_ID", "SLURM_JOB_ID"),
        cluster=("SLURM_CLUSTER_NAME",),
        user=("SLURM_JOB_USER",),
        array_task=("SLURM_ARRAY_TASK_ID",),
    ),
)
"""Looked at in this order: one that starts jobs inside another's (a workflow tool) stands before it."""

_USER = ("USER", "LOGNAME")


def origin_from_environment(environ: Mapping[str, str], user: str = "") -> Origin:
    """Where a process with this environment comes from; `user` is for who knows better than the environment."""
    for system in SYSTEMS:
        if job_id := _first(environ, system.job_id):
            return Origin(
                system.name,
                _first(environ, system.cluster),
                job_id,
                user or _first(environ, system.user + _USER),
                _first(environ, system.array_task),
            )
    return Origin("shell", user=user or _first(environ, _USER))


def _first(environ: Mapping[str, str], names: tuple[str, ...]) -> str:
    return next((environ[name] for name in names if environ.get(name)), "")


def _plain(text: str) -> str:
    """A part of an origin in letters that a comment can carry, at most 64 of them."""
    return re.sub(r"[^A-Za-z0-9_.@+-]", "_", text)[:64]
