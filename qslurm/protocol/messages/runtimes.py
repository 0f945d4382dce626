"""What quantum runtimes of this host say, and what is said to them. Those of other hosts: remote_runtimes.py."""

from __future__ import annotations

import msgspec

from qslurm.protocol.messages.message import Message, Number
from qslurm.runtimes.health import Health
from qslurm.runtimes.interface import BackendType


class Join(Message, frozen=True):
    """A quantum runtime is there and wants work; answered when there is some."""

    runtime: Number


class Report(Message, frozen=True):
    """How a quantum runtime's target is, said when that changes; it is never answered."""

    runtime: Number
    health: Health
    backend_type: BackendType | None = None


class Run(Message, frozen=True):
    """Execute this circuit. `order` is a number to give back with the Result, never used twice."""

    order: Number
    circuit: str
    shots: Number
    raw_data: bool = False
    seed: int | None = None
    file: str = "circuit"


class Result(Message, frozen=True):
    """An order is done. With an `error` nothing else counts, and `kind` names the class of the error.

    The kind `try_later` gives the order back; `begun` says that this counts as a try.
    """

    runtime: Number
    order: Number
    shots_done: Number = 0
    counts: dict[str, int] = msgspec.field(default_factory=dict)
    raw_data: list[str] | None = None
    seconds: float = 0.0
    error: str = ""
    kind: str = ""
    begun: bool = False


class Seat(msgspec.Struct, frozen=True):
    """One of the jobs that share a lease, and what its turns depend on, as of when the lease begins.

    `coupling` is how often the job couples (0 to 1), `used` what its center has used for its `weight` (QPU-seconds).
    """

    task: Number
    center: str = ""
    coupling: float = 0.0
    used: float = 0.0
    weight: float = 1.0


class Lease(Message, frozen=True):
    """Tasks have the runtime for a while: serve their lanes, whose descriptors come beside this message."""

    seats: list[Seat]
    backend: str
    max_shots: Number
    policy: str = "fifo"
    ageing_s: float = 0.0


class LeaseOver(Message, frozen=True):
    """The runtime serves no lane any more, and wants work. `kept`: its lanes are not shut, and may be served again."""

    runtime: Number
    kept: bool = False
