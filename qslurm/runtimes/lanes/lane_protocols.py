"""What the dispatcher's side of lanes has to know of tasks and of quantum runtimes, and what it says of itself."""

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
    """The dispatcher's tasks, by their ids; one that is not known may do nothing."""

    @property
    def backends(self) -> Mapping[str, BackendConfig]:
        """The backends, by name."""
        ...

    def log_fields(self, task: int) -> dict[str, str | int]:
        """What a line of the log says of a task; nothing of one that is not known."""
        ...

    def may_use_lane(self, task: int) -> bool:
        """Whether it is a hybrid job's, and has nothing in the queue."""
        ...

    def is_open(self, task: int) -> bool:
        """Whether it is not over."""
        ...

    def may_continue(self, task: int) -> bool:
        """Whether it runs, with something left to use, and no reservation against it."""
        ...

    def has_waiting(self, backend: str) -> bool:
        """Whether anything waits in a backend's queue."""
        ...

    def lease_member(self, task: int) -> LeasedTask:
        """What its turns in a lease depend on."""
        ...

    def left_s(self, task: int) -> float:
        """The QPU-seconds that it may still use."""
        ...

    def used_up(self, task: int) -> str:
        """Why it ends when it has none left, as the beginning of a sentence."""
        ...

    @property
    def can_store(self) -> bool:
        """Whether the store takes changes."""
        ...

    @property
    def all_stored(self) -> bool:
        """Whether it has taken all of them."""
        ...

    def count_lease(self, backend: str) -> None:
        """A runtime of a backend has been lent."""
        ...

    def record(self, task: int, circuit_sha256: str, executed: Executed) -> bool:
        """Take over an execution that did not go through the queue; False if it is known already."""
        ...

    def record_failure(self, task: int, busy: Busy, why: str) -> None:
        """Take over that one has failed."""
        ...

    def record_lost(self, task: int, seq: int) -> None:
        """One has no outcome: if it is asked for again, it has been lost once."""
        ...


class LaneRuntime(Protocol):
    """A quantum runtime's process."""

    number: int
    backend: str
    lanes: LaneChannel
    health: Health


class LaneRuntimes(Protocol):
    """Those of this host."""

    limit_s: float

    @property
    def too_slow(self) -> str:
        """What is said of a circuit that takes longer than `limit_s`."""
        ...

    def lend(self, number: int, lease: Lease, descriptors: list[int]) -> None:
        """Give an idle process lanes to serve; LeaseOver follows, or its end."""
        ...

    def kill(self, number: int, why: str) -> None:
        """End a process at once."""
        ...


SendLane = Callable[[Connection, tuple[int, ...]], bool]
"""Sends a job step the descriptors of its lane, over its connection; False if it does not take them."""


@dataclass(frozen=True)
class LaneStatus:
    """A task that shares a runtime now: since when, how long nobody has used it, and until when at the latest.

    Monotonic seconds; `until` is None while nobody else waits.
    """

    task: int
    since: float
    idle_s: float
    until: float | None
