"""Operators' commands for partitions: show, enable, drain and close."""

from __future__ import annotations

import os
import pwd
import time
from collections.abc import Mapping
from typing import Literal

import msgspec

from qslurm.c2.config.file import C2Config, backend_of, partition_of
from qslurm.c2.gate.rules import Target, out_of_service, target
from qslurm.c2.hooks.spool import DesiredState, Spool
from qslurm.c2.slurm_commands import SlurmCommands
from qslurm.errors import InvalidInputError, UnreachableError
from qslurm.protocol.messages import GetStatus, Status
from qslurm.slurm.job_info import JobInfo

STATUS_TIMEOUT_S = 2.0


class PartitionRow(msgspec.Struct, frozen=True, kw_only=True):
    """A partition's states.

    `wish` is the desired state: enabled, drained, closed or "" (never set), set `by` whom and `since` when (Unix
    seconds). `backend_state` is from the dispatcher, `slurm_state` from Slurm, `wanted_state` is what the gate sets.
    `reason` says why the partition starts no jobs.
    """

    partition: str
    backend: str
    wish: str
    by: str
    since: float | None
    backend_state: str
    slurm_state: str
    wanted_state: str
    running: int
    queued: int
    reason: str


def partition_status(config: C2Config, *, timeout_s: float = 5.0) -> list[PartitionRow]:
    """All configured quantum partitions; UnreachableError if slurmctld does not answer."""
    slurm = SlurmCommands(config.slurm, timeout_s=timeout_s)
    status, states, jobs = _status(config), slurm.partitions(), slurm.jobs()
    desired = Spool(config.gate.state).desired_states()
    return [_row(partition_of(one.name), status, states, jobs, desired) for one in config.backend]


def set_desired_state(
    config: C2Config, partition: str, state: Literal["enabled", "drained", "closed"], *, why: str = ""
) -> PartitionRow:
    """Set a partition's desired state and apply it at once; returns the partition afterwards.

    `partition` may be the name of its backend. InvalidInputError for an unknown partition, PermissionDeniedError
    without write access to the gate's directory. UnreachableError if slurmctld does not answer; the gate applies the
    desired state later.
    """
    name = known_partition(config, partition)
    slurm, spool = SlurmCommands(config.slurm), Spool(config.gate.state)
    new = DesiredState(state=state, by=_caller(), since=time.time(), why=" ".join(why.split()))
    spool.set_desired_state(name, new)
    status, desired = _status(config), spool.desired_states()
    goal = _target(name, status, desired)
    try:
        if slurm.partitions().get(name) != goal.state:
            slurm.set_partition(name, goal.state)
        return _row(name, status, slurm.partitions(), slurm.jobs(), desired)
    except UnreachableError as error:
        raise UnreachableError(
            f"Desired state of {name} set to {state}, but slurmctld does not respond.",
            hint="The gate applies it once slurmctld is back.",
        ) from error


def known_partition(config: C2Config, name: str) -> str:
    """A partition's name, from its own or its backend's; InvalidInputError, which lists all, if unknown."""
    names = [partition_of(backend.name) for backend in config.backend]
    for candidate in (name, partition_of(name)):
        if candidate in names:
            return candidate
    raise InvalidInputError(
        f"Unknown quantum partition {name!r}.",
        hint=f"Configured: {', '.join(names) or 'none'}.",
    )


def _target(name: str, status: Status | None, desired: Mapping[str, DesiredState]) -> Target:
    return target(desired.get(name), out_of_service(status, backend_of(name)))


def _row(
    name: str,
    status: Status | None,
    states: Mapping[str, str],
    jobs: Mapping[int, JobInfo],
    desired: Mapping[str, DesiredState],
) -> PartitionRow:
    wish, backend = desired.get(name), backend_of(name)
    here = [job for job in jobs.values() if name in job.partition.split(",")]
    goal = _target(name, status, desired)
    found = None if status is None else next((one for one in status.backends if one.name == backend), None)
    slurm_state = states.get(name, "missing")
    reason = goal.reason
    if slurm_state != goal.state:
        reason = "; ".join(part for part in (reason, f"the gate has not set it to {goal.state} yet") if part)
    return PartitionRow(
        partition=name,
        backend=backend,
        wish="" if wish is None else wish.state,
        by="" if wish is None else wish.by,
        since=None if wish is None else wish.since,
        backend_state="unknown" if found is None else found.state,
        slurm_state=slurm_state,
        wanted_state=goal.state,
        running=sum(not job.is_final and job.state != "PENDING" for job in here),
        queued=sum(job.state == "PENDING" for job in here),
        reason=reason,
    )


def _status(config: C2Config) -> Status | None:
    from qslurm.protocol.dispatcher_client import DispatcherClient

    with DispatcherClient(config.dispatcher.socket, timeout_s=STATUS_TIMEOUT_S) as client:
        try:
            answer = client.ask(GetStatus())
        except UnreachableError:
            return None  # the row's reason says so
    return answer if isinstance(answer, Status) else None


def _caller() -> str:
    sudo = os.environ.get("SUDO_USER", "")
    if os.geteuid() == 0 and sudo.replace("-", "").replace("_", "").replace(".", "").isalnum():
        return sudo
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())
