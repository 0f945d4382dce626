"""How everything is: backends, jobs, who holds a backend and who waits for one, and what has been counted."""

from __future__ import annotations

from typing import Literal

import msgspec

from qslurm.c2.scheduling.reservations import Reservation
from qslurm.payload.envelope import Kind
from qslurm.protocol.messages.message import Message, Number
from qslurm.protocol.metrics import Spread, Value


class GetStatus(Message, frozen=True):
    """What is going on? Anybody on the host may ask how the backends are, and how many jobs are open.

    With `jobs` the asker shows who that is, and is told of the jobs that are theirs, or as an operator of all: at each
    backend of the `queue` executions that are next. Names of users and circuits are not in the answer.
    """

    jobs: bool = False
    queue: Number = 0


class BackendStatus(Message, frozen=True):
    """One backend. `state`: idle, executing, calibrating or offline; `since` is when that began.

    `sessions` and `lanes` say how many jobs hold it, or a place at it.
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


class TaskStatus(Message, frozen=True):
    """One job the dispatcher has not closed yet. `executions` are those that are over."""

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
    """Its script has ended on its node, and nobody has said how."""


class HoldStatus(msgspec.Struct, frozen=True, kw_only=True):
    """A job that holds a backend: a `session` keeps its place between two circuits, a `lane` is a runtime of its own.

    `idle_s` is None while something of it is under way. `until` is when the hold ends, if nothing changes; None: it
    lasts as long as the job uses it and nobody else waits.
    """

    backend: str
    job_id: int
    center: str
    by: Literal["session", "lane"]
    since: float
    idle_s: float | None = None
    until: float | None = None


class WaitingStatus(msgspec.Struct, frozen=True, kw_only=True):
    """An execution that waits: the job's `seq`-th, since when, at which place from 1, and for what, in words."""

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
    """The answer to GetStatus. `ready` is false, with a `reason`, while nothing can be stored.

    `scope` says whose jobs are listed: all, own or none (`scope_reason`: why); `open_jobs` counts all. `queue_left`
    are the executions of those jobs that wait at a backend and are not listed.
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
    """What has been counted, and how much of everything is there now? For the platform's own users."""


class Metrics(Message, frozen=True):
    """The answer to GetMetrics: numbers by the names in `meters.FAMILIES`."""

    version: str
    pid: int
    values: dict[str, list[Value]]
    spreads: dict[str, list[Spread]]
