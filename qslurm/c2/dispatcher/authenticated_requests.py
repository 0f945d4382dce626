"""Requests with a credential: of C2's hooks, of operators, and of a job's step when it starts.

Requests are authorized here; plain functions on the task registry carry them out.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from qslurm.c2.dispatcher import reservation_requests
from qslurm.c2.dispatcher.backend_status import Backends
from qslurm.c2.dispatcher.listeners.credential_checks import CredentialChecks, Sender
from qslurm.c2.dispatcher.listeners.listeners import SignedRequest
from qslurm.c2.dispatcher.pool.all_runtimes import AllRuntimes
from qslurm.c2.dispatcher.reading_queue import ReadingQueue, ReadJob
from qslurm.c2.dispatcher.replies import Replies
from qslurm.c2.dispatcher.status_views import NO_CREDENTIAL, StatusViews, Viewer, viewer_of
from qslurm.c2.dispatcher.tasks import hook_requests, step_sessions
from qslurm.c2.dispatcher.tasks.task_registry import TaskRegistry
from qslurm.c2.dispatcher.worker_threads import WorkerThreads
from qslurm.errors import QslurmError
from qslurm.protocol.messages import (
    Admit,
    Admitted,
    Attach,
    Begin,
    End,
    Finish,
    GetEnds,
    GetStatus,
    Message,
    NotAdmitted,
    Pending,
    Refused,
    Release,
    Reserve,
    SetBackend,
)
from qslurm.system.event_log import EventLog
from qslurm.system.logfmt import Field
from qslurm.wire.connection import Address, Connection
from qslurm.wire.credentials import Identity

log = EventLog(__name__)
refusals = EventLog(f"{__name__}.refusals", per_minute=60)

_TOO_MANY = Refused(kind="unreachable", reason="Too many requests. Try again.")

AuthenticatedRequest = Admit | Finish | GetEnds | SetBackend | Reserve | Release | Attach | Begin | End


class AuthenticatedRequests:
    """Handles them. `send` replies at once; `replies` holds what must be stored before.

    `owner` is the uid of a connection's peer, `is_of_job` whether the peer is a process of a job. `read` finds errors
    in a job's data (None: it is not checked).
    """

    def __init__(
        self,
        registry: TaskRegistry,
        identity: Identity,
        trusted: frozenset[int],
        *,
        threads: WorkerThreads,
        backends: Backends,
        all_runtimes: AllRuntimes,
        views: StatusViews,
        replies: Replies,
        send: Callable[[Address, Message], None],
        owner: Callable[[Connection], int | None],
        is_of_job: Callable[[Connection, int], bool],
        read: ReadJob | None,
    ) -> None:
        self._registry = registry
        self._trusted = trusted
        self._backends = backends
        self._all_runtimes = all_runtimes
        self._views = views
        self._replies = replies
        self._send = send
        self._owner = owner
        self._is_of_job = is_of_job
        self._reading_queue = ReadingQueue(threads, read) if read else None
        self._checks = CredentialChecks(identity, threads)
        self._trusted_checks = CredentialChecks(identity, threads, "trusted")
        # status requests must not delay hooks
        self._status_checks = CredentialChecks(identity, threads, "status")

    def handle_status(self, request: SignedRequest, message: GetStatus) -> None:
        """The dispatcher's status, with the jobs that the sender may see."""

        def show(viewer: Viewer) -> None:
            self._send(request.address, self._views.status(message, viewer))

        checks, owner = self._checks_for(request, self._status_checks)
        if not message.jobs:
            show(Viewer("none", why=NO_CREDENTIAL))
        elif not checks.verify(request, lambda sender: show(viewer_of(sender, self._trusted)), owner):
            show(Viewer("none", why="too many requests"))

    def handle_metrics(self, request: SignedRequest) -> None:
        """The metrics, for trusted users."""
        checks, owner = self._checks_for(request, self._status_checks)
        if not checks.verify(request, lambda sender: self._show_metrics(request.address, sender), owner):
            self._send(request.address, _TOO_MANY)

    def _checks_for(
        self, request: SignedRequest, checks: CredentialChecks
    ) -> tuple[CredentialChecks, int | None]:
        """The checks to use for a request, and the uid that it counts for."""
        owner = self._owner(request.address.connection)
        if owner in self._trusted:
            return self._trusted_checks, None
        return checks, owner

    def _show_metrics(self, address: Address, sender: Sender) -> None:
        if isinstance(sender, QslurmError):
            self._send(address, Refused(kind=sender.kind, reason=sender.message))
        elif sender not in self._trusted:
            self._send(address, _not_trusted(sender))
        else:
            self._send(address, self._views.metrics())

    def handle(self, request: SignedRequest, message: AuthenticatedRequest) -> None:
        """Carry out a request if its sender is authorized."""
        began = self._registry.timer()
        checks, owner = self._checks_for(request, self._checks)
        if not checks.verify(
            request, lambda sender: self._handle_verified(request.address, message, sender, began), owner
        ):
            self._send(request.address, _TOO_MANY)

    def _handle_verified(
        self, address: Address, message: AuthenticatedRequest, uid: Sender, began: float
    ) -> None:
        registry = self._registry
        if isinstance(uid, QslurmError):
            refusals.warning("refused", **_names(message), why=uid.message)
            self._send(address, Refused(kind=uid.kind, reason=uid.message))
        elif isinstance(message, Attach | Begin | End):
            self._handle_job_request(address, message, uid)
        elif uid not in self._trusted:
            refusals.warning("refused", **_names(message), uid=uid, why="not trusted")
            self._send(address, _not_trusted(uid))
        elif isinstance(message, Admit):
            self._admit(address, message, None if self._reading_queue else "", began)
        elif isinstance(message, Finish):
            self._answer(address, hook_requests.finish(registry, message))
        elif isinstance(message, GetEnds):
            self._answer(address, hook_requests.ends(registry, message))
        elif isinstance(message, SetBackend):
            self._answer(address, self._backends.set(message))
        else:
            self._answer(address, reservation_requests.handle(registry, message))

    def _handle_job_request(self, address: Address, message: Attach | Begin | End, uid: int) -> None:
        """A request of a job's step, its TaskProlog or its TaskEpilog."""
        registry = self._registry
        if not self._is_of_job(address.connection, message.job_id):
            refusals.warning("refused", **_names(message), uid=uid, why="not a process of this job")
            self._send(address, step_sessions.another_job(message.job_id))
        elif registry.store_error:
            self._send(address, Pending(reason=registry.store_error_message(), position=0))
        elif isinstance(message, Attach):
            self._answer_step(address, step_sessions.attach(registry, message, uid))
        elif isinstance(message, Begin):
            self._answer_step(address, step_sessions.begin(registry, message, uid))
        else:
            self._answer_step(address, step_sessions.script_ended(registry, message, uid))

    def _admit(self, address: Address, job: Admit, complaint: str | None, began: float) -> None:
        self._backends.update(self._all_runtimes)
        answer = hook_requests.admit(self._registry, job, complaint)
        if answer is None and job.envelope is not None and self._reading_queue is not None:
            qubits = self._registry.backends[job.backend].qubits
            self._reading_queue.submit(
                job, job.envelope, qubits, lambda error: self._admit(address, job, error, began)
            )
            return
        if isinstance(answer, NotAdmitted):
            # Why a job can never run may quote its circuit.
            why = answer.reason if answer.retry else None
            log.info("job refused", **_names(job), again=answer.retry, why=why)
        if answer is not None:
            outcome = "admitted" if isinstance(answer, Admitted) else "later" if answer.retry else "never"
            self._registry.counters.add("admissions", job.backend, outcome)
            self._registry.counters.observe_on_reply("admission_seconds", began)
        if isinstance(answer, NotAdmitted) and self._registry.store_error:
            self._send(address, answer)  # it reports no change that would have to be stored
        elif answer is not None:
            self._answer(address, answer)

    def _answer(self, address: Address, message: Message) -> None:
        self._replies.hold(address, message, time.monotonic(), to_step=False)

    def _answer_step(self, address: Address, message: Message) -> None:
        self._replies.hold(address, message, time.monotonic(), to_step=True)


def _names(message: AuthenticatedRequest) -> dict[str, Field]:
    """Fields of a log line about a message and its job."""
    about = ("job_id", "restart", "center", "backend", "reservation")
    found: dict[str, Field] = {name.removesuffix("_id"): getattr(message, name, None) for name in about}
    return {"message": type(message).__name__} | found


def _not_trusted(uid: int) -> Refused:
    reason = f"Permission denied: uid {uid} is not a trusted user of this dispatcher."
    return Refused(kind="permission", reason=reason)
