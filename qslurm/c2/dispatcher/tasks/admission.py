"""Decides whether a job may start: the dispatcher's reply to the prolog plugin. Pure functions on plain data.

Slurm's job ids are not unique (after a crash of slurmctld an id may be reused), and a requeued job starts again. So a
job is identified by its id with the restart count, its owner, and the key of its submission.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from qslurm.c2.store.task_states import TaskState, is_open
from qslurm.protocol.messages import Admit
from qslurm.reason_codes import ReasonCode


@dataclass(frozen=True)
class KnownStart:
    """A task that the dispatcher knows: `started` if anything of it ran, `closed` if Slurm reported its end.

    A script counts as started when its TaskProlog has reported that (messages.Begin).
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
        """Whether a run of it has begun, and Slurm has not requeued it."""
        return self.state is not TaskState.WITHDRAWN and (self.started or self.state is TaskState.FINISHED)


@dataclass(frozen=True)
class BackendAvailability:
    """A backend's limits; `unavailable` is the reason why it cannot take jobs, or ""."""

    name: str
    max_shots: int
    unavailable: str


@dataclass(frozen=True)
class AlreadyAdmitted:
    """The same start is admitted already."""


@dataclass(frozen=True)
class Accept:
    """Admit the job: withdraw the tasks `instead_of`, and copy the results of task `reuse` if set."""

    instead_of: tuple[int, ...] = ()
    reuse: int | None = None


@dataclass(frozen=True)
class Reject:
    """Refuse the job, for now (`retry`) or for good."""

    reason: str
    retry: bool


Decision = AlreadyAdmitted | Accept | Reject


def decide(
    job: Admit,
    backend: BackendAvailability | None,
    same_id: Sequence[KnownStart],
    same_key: Sequence[KnownStart],
    store_error: str = "",
) -> Decision:
    """Decide about a job. `same_id` and `same_key` are the known starts with its id or its key, newest first.

    `store_error` is the reason why nothing can be stored at the moment, or "".
    """
    known = next((start for start in same_id if _is_same_start(job, start)), None)
    if known is not None:
        if job.kind == "script" and known.ran:  # slurmctld was killed, and lost that it had started it
            return _has_run(known)
        refused = known.state is TaskState.FAILED and not known.started
        return Reject(known.reason, retry=False) if refused else AlreadyAdmitted()
    if backend is None:
        return Reject(f"Unknown backend {job.backend!r}.", retry=False)
    if store_error:
        return Reject(f"Cannot store results at the moment: {store_error}.", retry=True)
    error = _find_error(job, backend)
    if error:
        return Reject(error, retry=False)
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
        # For now: when that job has ended, this one takes its results, or runs if there are none.
        return Reject(f"The same submission is already running as job {rival.job_id}.", retry=True)
    if backend.unavailable:
        return Reject(backend.unavailable, retry=True)
    return Accept(instead_of)


def _has_run(start: KnownStart) -> Reject:
    return Reject(f"The same submission has already run as job {start.job_id}.", retry=False)


def _is_same_job(job: Admit, start: KnownStart) -> bool:
    return (start.center, start.key, start.uid, start.kind) == (job.center, job.key, job.uid, job.kind)


def _is_same_start(job: Admit, start: KnownStart) -> bool:
    # A job that starts again after Slurm reported its end is another job with a reused id; with the same key it is
    # the same submission, sent again because slurmctld lost it before it ran.
    ended = start.state is TaskState.WITHDRAWN or (start.closed and not (job.key and start.ran))
    return start.restart == job.restart and _is_same_job(job, start) and not ended


def _find_error(job: Admit, backend: BackendAvailability) -> str:
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
