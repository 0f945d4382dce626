"""Requests for the dispatcher's status and metrics, and the replies."""

from __future__ import annotations

from typing import Literal

import msgspec

from qslurm.c2.scheduling.reservations import Reservation
from qslurm.payload.envelope import Kind
from qslurm.protocol.messages.message import Message, Number
from qslurm.protocol.metrics import LabeledHistogram, LabeledValue


class GetStatus(Message, frozen=True):
    """Ask for the dispatcher's status. Any user of the host may ask for the backends and the number of open jobs.

    With `jobs` the request needs a credential; the reply then lists the user's jobs (an operator: all jobs), and the
    next `queue` executions of each backend. It has no names of users and no circuits.
    """

    jobs: bool = False
    queue: Number = 0


class BackendStatus(msgspec.Struct, frozen=True, kw_only=True):
    """A backend. `state` is idle, executing, calibrating or offline, since `since`.

    `sessions` and `lanes` are the numbers of jobs that hold it or one of its runtimes.
    """

    name: str
    state: str
    reason: str
    since: float
    qubits: int
    max_shots: int
    default_shots: int
    runtimes: int
    queued: int
    executing: int
    policy: str = "fifo"
    sessions: int = 0
    lanes: int = 0


class TaskStatus(msgspec.Struct, frozen=True, kw_only=True):
    """A job that has not ended. `executions` counts its completed ones."""

    job_id: Number
    restart: Number
    center: str
    backend: str
    kind: Kind
    state: str
    since: float
    executions: int
    queued: int = 0
    executing: int = 0
    over: bool = False
    """Its script has ended on its node; the exit code is not known yet."""


class HoldStatus(msgspec.Struct, frozen=True, kw_only=True):
    """A job that holds a backend: by `session` between two circuits, by `lane` a runtime of its own.

    `idle_s` is None while it executes. `until` is when the hold ends if nothing changes; None if it lasts as long as
    the job uses it and no other job waits.
    """

    backend: str
    job_id: int
    center: str
    by: Literal["session", "lane"]
    since: float
    idle_s: float | None = None
    until: float | None = None


class WaitingStatus(msgspec.Struct, frozen=True, kw_only=True):
    """A queued execution: the job's `seq`-th, its queue position from 1, and why it waits."""

    backend: str
    position: int
    job_id: int
    restart: int
    center: str
    seq: int
    shots: int
    since: float
    reason: str


class Status(Message, frozen=True):
    """The reply to GetStatus. `ready` is false, with a `reason`, while the store cannot be written.

    `scope` says which jobs are listed, and `scope_reason` why; `open_jobs` counts all. `queue_left` has the number of
    these jobs' queued executions that are not listed, by backend.
    """

    version: str
    pid: int
    started: float
    ready: bool
    reason: str
    backends: list[BackendStatus]
    tasks: list[TaskStatus]
    reservations: list[Reservation] = msgspec.field(default_factory=list)
    scope: Literal["all", "own", "none"] = "none"
    scope_reason: str = ""
    open_jobs: int = 0
    holds: list[HoldStatus] = msgspec.field(default_factory=list)
    queue: list[WaitingStatus] = msgspec.field(default_factory=list)
    queue_left: dict[str, int] = msgspec.field(default_factory=dict)


class GetMetrics(Message, frozen=True):
    """Ask for counters, histograms and gauges. For the platform's own users."""


class Metrics(Message, frozen=True):
    """The reply to GetMetrics, by the names in `protocol.metrics.FAMILIES`."""

    version: str
    pid: int
    values: dict[str, list[LabeledValue]]
    spreads: dict[str, list[LabeledHistogram]]
