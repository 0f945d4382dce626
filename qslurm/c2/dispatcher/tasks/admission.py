"""May this job run? Decides on plain data what the dispatcher answers to the prolog plugin.

Slurm's job ids are not identities (after a crash of slurmctld one may be given away again), and a job starts
again when it is requeued. So three things name a job here: its id with the restart count, its owner, and the
key that its submission carries.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from qslurm.c2.store.task_states import TaskState, is_open
from qslurm.protocol.messages import Admit
from qslurm.reason_codes import ReasonCode


@dataclass(frozen=True)
class KnownStart:
    """What matters of another task: `started` if anything of it ran, `closed` if Slurm said it is over.

    Of a script it is known that it began if its TaskProlog has said so (messages.Begin).
    """

    task: int
    job_id: int
    restart: int
    center: str
    key: str
    uid: int
    kind: str
    state: TaskState
    reason: str
    reason_code: ReasonCode
    started: bool
    closed: bool

    @property
    def ran(self) -> bool:
        """Whether a run of it has begun, and was not taken back by Slurm."""
        return self.state is not TaskState.WITHDRAWN and (self.started or self.state is TaskState.FINISHED)


@dataclass(frozen=True)
class BackendAvailability:
    """What matters of a backend; `unavailable` is the reason why it can't take jobs, or empty."""

    name: str
    max_shots: int
    unavailable: str


@dataclass(frozen=True)
class AlreadyAdmitted:
    """Exactly this start has been admitted already."""


@dataclass(frozen=True)
class Accept:
    """Admit it: withdraw the tasks in `instead_of`, and take the results of task `reuse` if there is one."""

    instead_of: tuple[int, ...] = ()
    reuse: int | None = None


@dataclass(frozen=True)
class Reject:
    """Reject it away, for now (`retry`) or for good."""

    reason: str
    retry: bool


Decision = AlreadyAdmitted | Accept | Reject


def decide(
    job: Admit,
    backend: BackendAvailability | None,
    same_id: Sequence[KnownStart],
    same_key: Sequence[KnownStart],
    store_reason: str = "",
) -> Decision:
    """Decide. `same_id` and `same_key` are the starts known with this job id, or with this key, newest first.

    `store_reason` says why nothing can be stored at the moment, or is empty.
    """
    known = next((start for start in same_id if _is_same_start(job, start)), None)
    if known is not None:
        if job.kind == "script" and known.ran:  # slurmctld was killed, and has forgotten that it started it
            return _has_run(known)
        refused = known.state is TaskState.FAILED and not known.started
        return Reject(known.reason, retry=False) if refused else AlreadyAdmitted()
    if backend is None:
        return Reject(f"Unknown backend {job.backend!r}.", retry=False)
    if store_reason:
        return Reject(f"Cannot store results at the moment: {store_reason}.", retry=True)
    complaint = _complaint(job, backend)
    if complaint:
        return Reject(complaint, retry=False)
    if any(
        is_open(start.state) and _is_same_job(job, start) and start.restart > job.restart for start in same_id
    ):
        return Reject("A later start of this job is running.", retry=True)
    return _among_starts(job, backend, same_id, same_key)


def _among_starts(
    job: Admit, backend: BackendAvailability, same_id: Sequence[KnownStart], same_key: Sequence[KnownStart]
) -> Decision:
    instead_of = tuple(start.task for start in same_id if is_open(start.state))
    finished = next((s for s in same_key if s.state is TaskState.FINISHED and s.kind == job.kind), None)
    if finished is not None and job.kind != "script":
        return Accept(instead_of, reuse=finished.task)
    over = [s for s in same_key if s.ran and not is_open(s.state)]
    ran = next((s for s in over if s.job_id != job.job_id or s.reason_code is ReasonCode.END_UNKNOWN), None)
    if ran is not None and job.kind != "circuit":
        return _has_run(ran)
    rival = next((start for start in same_key if is_open(start.state) and start.job_id != job.job_id), None)
    if rival is not None:
        # Not for good: when that job has ended, this one takes over its results, or runs if there are none.
        return Reject(f"The same submission is already running as job {rival.job_id}.", retry=True)
    if backend.unavailable:
        return Reject(backend.unavailable, retry=True)
    return Accept(instead_of)


def _has_run(start: KnownStart) -> Reject:
    return Reject(f"The same submission has already run as job {start.job_id}.", retry=False)


def _is_same_job(job: Admit, start: KnownStart) -> bool:
    return (start.center, start.key, start.uid, start.kind) == (job.center, job.key, job.uid, job.kind)


def _is_same_start(job: Admit, start: KnownStart) -> bool:
    # A job that Slurm has closed, and that comes again, is another job with a reused id; with the same key it is the
    # same submission, sent again because slurmctld had forgotten it before it ran.
    gone = start.state is TaskState.WITHDRAWN or (start.closed and not (job.key and start.ran))
    return start.restart == job.restart and _is_same_job(job, start) and not gone


def _complaint(job: Admit, backend: BackendAvailability) -> str:
    envelope = job.envelope
    if job.kind == "script":
        return ""
    if envelope is None:
        return f"The job is marked as {job.kind}, but its script carries no payload."
    if envelope.kind != job.kind:
        return f"The job is marked as {job.kind}, but its script carries a {envelope.kind} payload."
    if envelope.shots is not None and not 1 <= envelope.shots <= backend.max_shots:
        return f"Invalid number of shots: {envelope.shots}. Backend {backend.name} takes 1 to {backend.max_shots}."
    return ""
