"""What hooks, operators, classical runtimes and quantum runtimes say to the dispatcher, and what it answers.

Every message is a frozen struct, tagged with its name and carried as MessagePack: data only, never code.
Times are Unix seconds, durations seconds. `job_id` is C2's Slurm job id, `restart` its restart count
(SLURM_RESTART_COUNT): together they name one start of one job.
"""

from __future__ import annotations

import hashlib
from typing import Annotated, Literal

import msgspec

from qslurm.dispatcher.meters import Spread, Value
from qslurm.dispatcher.scheduling.reservations import Reservation
from qslurm.dispatcher.seen import HoldStatus, WaitingStatus
from qslurm.payload.envelope import Envelope, Kind
from qslurm.runtimes.health import Health
from qslurm.runtimes.interface import BackendType

Number = Annotated[int, msgspec.Meta(ge=0, lt=2**53)]
"""A count or an id; the bound keeps it within what SQLite and JSON can carry."""

OPEN_EXECUTIONS = 16
"""Circuits that one task may have under way at a time."""

OPEN_IN_SESSION = 64
"""The same for a session whose client is elsewhere: what is on its way there and back counts, too."""

CIRCUIT_BYTES_IN_SESSION = 32 * 1024 * 1024
"""Of all circuits that a session has under way; one may be as large as any."""

END = -1
"""In place of an execution's number: the end of a task is waited for."""


class Message(msgspec.Struct, frozen=True, tag_field="message", tag=True, kw_only=True):
    """The root of all messages."""


# --- asked by C2's hooks and operators ---------------------------------------------------------------


class Admit(Message, frozen=True):
    """Slurm has picked this job to run: may it? Asked by the prolog plugin; asking again changes nothing."""

    job_id: Number
    restart: Number
    user: str
    uid: Number
    account: str
    center: str
    backend: str
    kind: Kind
    name: str = ""
    key: str = ""
    origin: str = ""
    envelope: Envelope | None = None


class Admitted(Message, frozen=True):
    """Yes: the dispatcher expects the job."""


class TurnedAway(Message, frozen=True):
    """Not now, or never. With `retry` the job goes back to Slurm's queue, without it is cancelled."""

    reason: str
    retry: bool


class Finish(Message, frozen=True):
    """The job's start is over. `state` is Slurm's: COMPLETED, FAILED, CANCELLED, TIMEOUT, REQUEUED …"""

    job_id: Number
    restart: Number
    state: str
    exit_code: int | None = None
    reason: str = ""
    key: str = ""
    """The key in the job's comment, if known: after a crash Slurm may give a job id away a second time."""


class Done(Message, frozen=True):
    """Taken note of."""


class SetBackend(Message, frozen=True):
    """An operator takes a backend out of service, or back in."""

    backend: str
    online: bool
    reason: str = ""


class Reserve(Message, frozen=True):
    """An operator reserves a backend from `begins` until `ends`, for a center or for a job (C2's job id)."""

    backend: str
    begins: float
    ends: float
    center: str = ""
    job_id: Number = 0
    reason: str = ""


class Reserved(Message, frozen=True):
    """It is reserved, under this number; `note` is what its maker may want to know."""

    reservation: Number
    note: str = ""


class Release(Message, frozen=True):
    """An operator takes a reservation back."""

    reservation: Number


class GetStatus(Message, frozen=True):
    """What is going on? Anybody on the host may ask how the backends are, and how many jobs are open.

    With `jobs` the asker shows who that is, and is told of the jobs that are theirs, or as an operator of all: at each
    backend of the `queue` executions that are next. Names of users and circuits are not in the answer.
    """

    jobs: bool = False
    queue: Number = 0


class GetMetrics(Message, frozen=True):
    """What has been counted, and how much of everything is there now? For the platform's own users."""


class Metrics(Message, frozen=True):
    """The answer to GetMetrics: numbers by the names in `meters.FAMILIES`."""

    version: str
    pid: int
    values: dict[str, list[Value]]
    spreads: dict[str, list[Spread]]


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
    reservations: list[Reservation] = []
    scope: Literal["all", "own", "none"] = "none"
    scope_reason: str = ""
    open_jobs: int = 0
    holds: list[HoldStatus] = []
    queue: list[WaitingStatus] = []
    queue_left: dict[str, int] = {}


class Refused(Message, frozen=True):
    """The request can't be served; `kind` is the `kind` of the error class it stands for."""

    kind: str
    reason: str


# --- said by job steps (classical runtimes) ----------------------------------------------------------


class Attach(Message, frozen=True):
    """A job step asks for the work of its job. `client` is a word that tells it from other steps."""

    job_id: Number
    restart: Number
    client: str


class Begin(Message, frozen=True):
    """A job's batch script is about to run, says its TaskProlog: may it? A script runs once.

    `launch` is a word that tells this launch from others, so that asking again changes nothing.
    """

    job_id: Number
    restart: Number
    launch: str


class End(Message, frozen=True):
    """The job's batch script has ended, says its TaskEpilog, which does not know how."""

    job_id: Number
    restart: Number


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
    dispatcher has taken note of it: an Await asks for the outcome.
    """

    task: Number
    seq: Number
    circuit: str
    shots: Number
    raw_data: bool = False
    seed: int | None = None
    wait: bool = True

    def digest(self) -> str:
        """What the execution is recognised by when it is asked for again."""
        return circuit_digest(self.circuit, self.shots, raw_data=self.raw_data, seed=self.seed)


class Await(Message, frozen=True):
    """What has become of that execution? Answered with Executed, or with Pending after about a second."""

    task: Number
    seq: Number


class Pending(Message, frozen=True):
    """Not yet: `reason` says why; `position` is the place in the queue, from 1, or 0 once it runs.

    To the client of a session, which is told without asking, `again` says that it has to ask once more.
    """

    reason: str
    position: int
    again: bool = False


class Attend(Message, frozen=True):
    """The step of a session asks for its end. Answered with Refused when it has ended, with Pending until then."""

    task: Number


class Conclude(Message, frozen=True):
    """The hybrid algorithm is over: with its final result (a JSON object; a session may have none), or with why it
    failed.
    """

    task: Number
    final_result: str | None = None
    failure: str = ""


def circuit_digest(circuit: str, shots: int, *, raw_data: bool, seed: int | None) -> str:
    """The SHA-256 of all that an execution was asked with, in hexadecimal digits."""
    return hashlib.sha256(f"{shots} {raw_data} {seed}\n{circuit}".encode()).hexdigest()


# --- said by quantum runtimes, and to them -----------------------------------------------------------


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
    counts: dict[str, int] = {}
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


Request = (
    Admit
    | Finish
    | SetBackend
    | Reserve
    | Release
    | GetStatus
    | GetMetrics
    | Attach
    | Begin
    | End
    | Execute
    | Await
    | Conclude
    | Attend
    | Join
    | Report
    | Result
    | LeaseOver
)  # what the dispatcher answers
Reply = (
    Admitted
    | TurnedAway
    | Done
    | Reserved
    | Status
    | Metrics
    | Refused
    | Attached
    | Pending
    | Executed
    | Run
    | Lease
)
