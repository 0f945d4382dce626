"""Messages between the dispatcher and quantum runtimes on its host (on other hosts: remote_runtimes.py)."""

from __future__ import annotations

import msgspec

from qslurm.protocol.messages.message import Message, Number
from qslurm.runtimes.health import Health
from qslurm.runtimes.interface import BackendType


class Join(Message, frozen=True):
    """A quantum runtime asks for work. The reply comes when there is some."""

    runtime: Number


class Report(Message, frozen=True):
    """The health of a quantum runtime's target has changed. There is no reply."""

    runtime: Number
    health: Health
    backend_type: BackendType | None = None


class Run(Message, frozen=True):
    """Execute a circuit. Its OrderResult has the same `order`, a number that is never used twice."""

    order: Number
    circuit: str
    shots: Number
    raw_data: bool = False
    seed: int | None = None
    file: str = "circuit"


class OrderResult(Message, frozen=True):
    """The result of an order. With an `error` the other fields are unset, and `kind` names the class of qslurm.errors.

    The kind `try_later` returns the order to the queue; with `begun` that counts as a try.
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


class LeasedTask(msgspec.Struct, frozen=True):
    """A task that shares a lease, and what its turns depend on, as of when the lease begins.

    `coupling` is how often the job couples (0 to 1), `used` the QPU-seconds of its center, which has this `weight`.
    """

    task: Number
    center: str = ""
    coupling: float = 0.0
    used: float = 0.0
    weight: float = 1.0


class Lease(Message, frozen=True):
    """Serve the lanes of these tasks. Their descriptors are sent beside this message."""

    members: list[LeasedTask]
    backend: str
    max_shots: Number
    policy: str = "fifo"
    ageing_s: float = 0.0


class LeaseOver(Message, frozen=True):
    """The runtime serves no lane any more and asks for work. With `kept` its lanes stay open."""

    runtime: Number
    kept: bool = False
