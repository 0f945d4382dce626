"""What job steps (classical runtimes) and sessions' clients say: circuits to be executed, and how it all ends."""

from __future__ import annotations

import hashlib

from qslurm.payload.envelope import Envelope, Kind
from qslurm.protocol.messages.message import Message, Number
from qslurm.runtimes.interface import BackendType

OPEN_EXECUTIONS = 16
"""Circuits that one task may have under way at a time."""


OPEN_IN_SESSION = 64
"""The same for a session whose client is elsewhere: what is on its way there and back counts, too."""


CIRCUIT_BYTES_IN_SESSION = 32 * 1024 * 1024
"""Of all circuits that a session has under way; one may be as large as any."""


END = -1
"""In place of an execution's number: the end of a task is waited for."""


class Attach(Message, frozen=True):
    """A job step asks for the work of its job. `client` is a word that tells it from other steps."""

    job_id: Number
    restart: Number
    client: str


class Attached(Message, frozen=True):
    """The step may work. `secret` is what it proves itself with from now on, instead of a MUNGE credential.

    `envelope` is the job's data; it is None when the task has ended already, and `state`, `reason`, `outcome`
    (of a circuit job) and `final_result` (JSON, of a hybrid job) say how.
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
    """Execute a circuit. `seq` numbers the task's executions from 0; a known number is not run again.

    The answer is its outcome, or Pending after about a second. Without `wait` it is Pending as soon as the
    dispatcher has taken note of it: an Await asks for the outcome. With `lane` the dispatcher may send a lane for the
    next circuits, over the connection by which this came.
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
        """What the execution is recognised by when it is asked for again."""
        return circuit_digest(self.circuit, self.shots, raw_data=self.raw_data, seed=self.seed)


def circuit_digest(circuit: str, shots: int, *, raw_data: bool, seed: int | None) -> str:
    """The SHA-256 of all that an execution was asked with, in hexadecimal digits."""
    return hashlib.sha256(f"{shots} {raw_data} {seed}\n{circuit}".encode()).hexdigest()


class Await(Message, frozen=True):
    """What has become of that execution? Answered with Executed, or with Pending after about a second."""

    task: Number
    seq: Number


class Executed(Message, frozen=True):
    """An execution's outcome. With an `error` there are no counts; `kind` names the error's class."""

    seq: Number
    shots_requested: Number
    shots_done: Number
    counts: dict[str, int]
    seconds: float
    raw_data: list[str] | None = None
    error: str = ""
    kind: str = ""


class Pending(Message, frozen=True):
    """Not yet: `reason` says why; `position` is the place in the queue, from 1, or 0 once it runs.

    `again` says that nothing can be stored: the client of a session, which is told of outcomes without asking, has to
    ask once more.
    """

    reason: str
    position: int
    again: bool = False


class Attend(Message, frozen=True):
    """The step of a session asks for its end. Answered with Refused when it has ended, with Pending until then."""

    task: Number


class Conclude(Message, frozen=True):
    """The hybrid algorithm is over: with its final result (a JSON object; a session may have none) and a remark on it,
    or with why it failed.
    """

    task: Number
    final_result: str | None = None
    failure: str = ""
    remark: str = ""
