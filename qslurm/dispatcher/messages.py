"""What hooks, operators, classical runtimes and quantum runtimes say to the dispatcher, and what it answers.

Every message is a frozen struct, tagged with its name and carried as MessagePack: data only, never code.
Times are Unix seconds, durations seconds. `job_id` is C2's Slurm job id, `restart` its restart count
(SLURM_RESTART_COUNT): together they name one start of one job.
"""

from __future__ import annotations

import msgspec

from qslurm.payload.envelope import Envelope, Kind


class Message(msgspec.Struct, frozen=True, tag_field="message", tag=True, kw_only=True):
    """The root of all messages."""


# --- asked by C2's hooks and operators ---------------------------------------------------------------


class Admit(Message):
    """Slurm has picked this job to run: may it? Asked by the prolog plugin; asking again changes nothing."""

    job_id: int
    restart: int
    user: str
    uid: int
    account: str
    center: str
    backend: str
    kind: Kind
    name: str = ""
    key: str = ""
    origin: str = ""
    envelope: Envelope | None = None


class Admitted(Message):
    """Yes: the dispatcher expects the job."""


class TurnedAway(Message):
    """Not now, or never. With `retry` the job goes back to Slurm's queue, without it is cancelled with the reason."""

    reason: str
    retry: bool


class Finish(Message):
    """This start of the job is over. `state` is Slurm's (COMPLETED, FAILED, CANCELLED, TIMEOUT, REQUEUED …)."""

    job_id: int
    restart: int
    state: str
    exit_code: int | None = None
    reason: str = ""


class Done(Message):
    """Taken note of."""


class SetBackend(Message):
    """An operator takes a backend out of service, or back in."""

    backend: str
    online: bool
    reason: str = ""


class GetStatus(Message):
    """What is going on? Anybody on the host may ask; names of users and circuits are not in the answer."""


class BackendStatus(Message):
    """One backend. `state`: idle, executing, calibrating or offline; `since` is when that began."""

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


class TaskStatus(Message):
    """One job the dispatcher has not closed yet."""

    job_id: int
    restart: int
    center: str
    backend: str
    kind: Kind
    state: str
    since: float
    executions: int


class Status(Message):
    """The answer to GetStatus. `ready` is false, with a `reason`, while nothing new can be admitted (store full)."""

    version: str
    pid: int
    started: float
    ready: bool
    reason: str
    backends: list[BackendStatus]
    tasks: list[TaskStatus]


class Refused(Message):
    """The request can't be served; `kind` is the `kind` of the error class it stands for."""

    kind: str
    reason: str
