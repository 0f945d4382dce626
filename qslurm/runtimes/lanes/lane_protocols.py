"""The dispatcher's tasks, quantum runtimes and clients as lanes use them, and the status of lanes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from qslurm.c2.config.dispatcher_section import BackendConfig
from qslurm.protocol.messages import Executed, Lease, LeasedTask
from qslurm.runtimes.health import Health
from qslurm.runtimes.lanes.lane_channel import LaneChannel
from qslurm.runtimes.lanes.logbook import Busy
from qslurm.wire.connection import Connection


class LaneTasks(Protocol):
    """The dispatcher's tasks, by id; an unknown task may do nothing."""

    @property
    def backends(self) -> Mapping[str, BackendConfig]:
        """The backends, by name."""
        ...

    def log_fields(self, task: int) -> dict[str, str | int]:
        """The fields of a log line about a task; empty for an unknown one."""
        ...

    def may_use_lane(self, task: int) -> bool:
        """Whether the task is a hybrid job's, with nothing in the queue."""
        ...

    def is_open(self, task: int) -> bool:
        """Whether the task has not ended."""
        ...

    def may_continue(self, task: int) -> bool:
        """Whether the task runs, within its limits, with no reservation against it."""
        ...

    def has_waiting(self, backend: str) -> bool:
        """Whether anything waits in a backend's queue."""
        ...

    def lease_member(self, task: int) -> LeasedTask:
        """The facts that decide about the task's turns in a lease."""
        ...

    def left_s(self, task: int) -> float:
        """The QPU-seconds that the task may still use."""
        ...

    def used_up(self, task: int) -> str:
        """Why the task ends when it has none left, as the beginning of a sentence."""
        ...

    @property
    def can_store(self) -> bool:
        """Whether the store accepts changes."""
        ...

    @property
    def all_stored(self) -> bool:
        """Whether the store has all changes."""
        ...

    def count_lease(self, backend: str) -> None:
        """Count a lease of one of the backend's runtimes."""
        ...

    def record(self, task: int, circuit_sha256: str, executed: Executed) -> bool:
        """Record an execution that bypassed the queue; False if it is recorded already."""
        ...

    def record_failure(self, task: int, busy: Busy, why: str) -> None:
        """Record that an execution has failed."""
        ...

    def record_lost(self, task: int, seq: int) -> None:
        """Record that an execution has no outcome; requested again, it counts as lost once."""
        ...


class LaneRuntime(Protocol):
    """A quantum runtime's process."""

    number: int
    backend: str
    lanes: LaneChannel
    health: Health


class LaneRuntimes(Protocol):
    """The quantum runtimes of this host."""

    limit_s: float

    @property
    def time_limit_reason(self) -> str:
        """The reason of a circuit that takes longer than `limit_s`."""
        ...

    def lend(self, number: int, lease: Lease, descriptors: list[int]) -> None:
        """Send an idle process lanes to serve; LeaseOver follows, or the process ends."""
        ...

    def kill(self, number: int, why: str) -> None:
        """End a process at once."""
        ...


SendLane = Callable[[Connection, tuple[int, ...]], bool]
"""Sends a job step the descriptors of its lane, over its connection; False if it does not take them."""


@dataclass(frozen=True)
class LaneStatus:
    """A task that shares a runtime: since when, how long its runtime has been idle, and when its lease ends at
    the latest.

    Monotonic seconds; `until` is None while no other task waits.
    """

    task: int
    since: float
    idle_s: float
    until: float | None
