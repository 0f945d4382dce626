"""Requests of job steps and of sessions' clients, and the replies."""

from __future__ import annotations

import hashlib

from qslurm.payload.envelope import Envelope, Kind
from qslurm.protocol.messages.message import Message, Number
from qslurm.runtimes.interface import BackendType

OPEN_EXECUTIONS = 16
"""The most unfinished executions of a task."""

OPEN_IN_SESSION = 64
"""The most unfinished executions of a session; those in transit count, too."""

CIRCUIT_BYTES_IN_SESSION = 32 * 1024 * 1024
"""The total size of a session's unfinished circuits. A single one may be larger."""

END = -1
"""In place of an execution's `seq`: the end of the task."""


class Attach(Message, frozen=True):
    """A job step asks for its job's work. `client` distinguishes it from other steps."""

    job_id: Number
    restart: Number
    client: str


class Attached(Message, frozen=True):
    """The reply to Attach. `secret` authenticates the step's next requests, instead of a MUNGE credential.

    `envelope` is the job's data. It is None if the task has ended; then `state`, `reason`, `outcome` (circuit jobs) and
    `final_result` (hybrid jobs, JSON) say how.
    """

    task: Number
    secret: bytes
    kind: Kind
    backend: str
    state: str
    qubits: int
    max_shots: int
    default_shots: int
    backend_type: BackendType | None = None
    envelope: Envelope | None = None
    reason: str = ""
    outcome: Executed | None = None
    final_result: str | None = None


class Execute(Message, frozen=True):
    """Execute a circuit. `seq` numbers the task's executions from 0; a known number is not executed again.

    The reply is Executed, or Pending after about a second. Without `wait` it is Pending at once; Await asks for the
    outcome. With `lane` the dispatcher may send a lane for the next circuits over the same connection.
    """

    task: Number
    seq: Number
    circuit: str
    shots: Number
    raw_data: bool = False
    seed: int | None = None
    wait: bool = True
    lane: bool = False

    def digest(self) -> str:
        """Identifies the execution when the request is repeated."""
        return circuit_digest(self.circuit, self.shots, raw_data=self.raw_data, seed=self.seed)


def circuit_digest(circuit: str, shots: int, *, raw_data: bool, seed: int | None) -> str:
    """The SHA-256 of an execution's parameters, in hexadecimal."""
    return hashlib.sha256(f"{shots} {raw_data} {seed}\n{circuit}".encode()).hexdigest()


class Await(Message, frozen=True):
    """Wait for an execution. The reply is Executed, or Pending after about a second."""

    task: Number
    seq: Number


class Executed(Message, frozen=True):
    """The outcome of an execution. With an `error` there are no counts, and `kind` names the class of qslurm.errors."""

    seq: Number
    shots_requested: Number
    shots_done: Number
    counts: dict[str, int]
    seconds: float
    raw_data: list[str] | None = None
    error: str = ""
    kind: str = ""


class Pending(Message, frozen=True):
    """The outcome is not known yet. `position` is the queue position from 1, or 0 while the circuit is executing.

    With `again` the store cannot be written: a session's client, which gets outcomes without Await, has to repeat its
    request.
    """

    reason: str
    position: int
    again: bool = False


class Attend(Message, frozen=True):
    """The step of a session waits for its end. The reply is Refused when it has ended, and Pending until then."""

    task: Number


class Conclude(Message, frozen=True):
    """The hybrid file or session has ended, with its final result (a JSON object; sessions may have none) and a remark,
    or with the reason of its failure.
    """

    task: Number
    final_result: str | None = None
    failure: str = ""
    remark: str = ""
