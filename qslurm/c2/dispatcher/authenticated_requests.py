"""What is asked with a credential: by C2's hooks, by operators, and by a job's step when it begins.

The credential says who asks. What they may do is decided here, and done by plain functions on the ledger.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from qslurm.c2.dispatcher import reservation_requests
from qslurm.c2.dispatcher.backend_status import Backends
from qslurm.c2.dispatcher.listeners.credential_checks import Checks, Sender
from qslurm.c2.dispatcher.pool.all_runtimes import AllRuntimes
from qslurm.c2.dispatcher.reading_queue import ReadingQueue, ReadJob
from qslurm.c2.dispatcher.replies import Replies, To
from qslurm.c2.dispatcher.status_views import NOT_ASKED, StatusViews, Viewer, viewer
from qslurm.c2.dispatcher.tasks import hook_requests, step_sessions
from qslurm.c2.dispatcher.tasks.task_registry import TaskRegistry
from qslurm.c2.dispatcher.worker_threads import WorkerThreads
from qslurm.errors import QslurmError
from qslurm.protocol.credentials import Identity
from qslurm.protocol.dispatcher_frames import Address, Parcel
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
    Pending,
    Refused,
    Release,
    Reserve,
    SetBackend,
    TurnedAway,
)
from qslurm.system.event_log import EventLog
from qslurm.system.logfmt import Field

log = EventLog(__name__)
refusals = EventLog(f"{__name__}.refusals", a_minute=60)

_TOO_MANY = Refused(kind="unreachable", reason="Too many ask at once; ask again.")

Signed = Admit | Finish | GetEnds | SetBackend | Reserve | Release | Attach | Begin | End


class AuthenticatedRequests:
    """Takes them. `send` tells at once, what has to be stored before is held by `answers`.

    `owner` is who is at the other end of a connection (a uid), `is_of_job` whether that is a process of a job; `read`
    finds what speaks against a job's data (None: it is not read).
    """

    def __init__(
        self,
        ledger: TaskRegistry,
        identity: Identity,
        trusted: frozenset[int],
        *,
        threads: WorkerThreads,
        backends: Backends,
        fleet: AllRuntimes,
        views: StatusViews,
        answers: Replies,
        send: Callable[[To, Message], None],
        owner: Callable[[bytes], int | None],
        is_of_job: Callable[[bytes, int], bool],
        read: ReadJob | None,
    ) -> None:
        self._ledger = ledger
        self._trusted = trusted
        self._backends = backends
        self._fleet = fleet
        self._views = views
        self._answers = answers
        self._send = send
        self._owner = owner
        self._is_of_job = is_of_job
        self._readings = ReadingQueue(threads, read) if read else None
        self._checks = Checks(identity, threads)
        self._trusted_checks = Checks(identity, threads, "trust")  # nor must anybody else
        self._lookers = Checks(identity, threads, "look")  # who only looks must not keep hooks waiting

    def show(self, parcel: Parcel, message: GetStatus) -> None:
        """How the dispatcher is, and of jobs what its sender may see."""

        def show(eyes: Viewer) -> None:
            self._send(parcel.address, self._views.status(message, eyes))

        checks, owner = self._who_checks(parcel, self._lookers)
        if not message.jobs:
            show(Viewer("none", why=NOT_ASKED))
        elif not checks.ask(parcel, lambda sender: show(viewer(sender, self._trusted)), owner):
            show(Viewer("none", why="too many ask at once"))

    def show_metrics(self, parcel: Parcel) -> None:
        """The counters, for operators."""
        checks, owner = self._who_checks(parcel, self._lookers)
        if not checks.ask(parcel, lambda sender: self._show_metrics(parcel.address, sender), owner):
            self._send(parcel.address, _TOO_MANY)

    def _who_checks(self, parcel: Parcel, checks: Checks) -> tuple[Checks, int | None]:
        """Who checks a credential, and the user whose turn that is."""
        owner = self._owner(parcel.address[0])
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

    def take(self, parcel: Parcel, message: Signed) -> None:
        """Do what is asked, if who asks may."""
        began = self._ledger.timer()
        checks, owner = self._who_checks(parcel, self._checks)
        if not checks.ask(
            parcel, lambda sender: self._take_signed(parcel.address, message, sender, began), owner
        ):
            self._send(parcel.address, _TOO_MANY)

    def _take_signed(self, address: Address, message: Signed, uid: Sender, began: float) -> None:
        ledger = self._ledger
        if isinstance(uid, QslurmError):
            refusals.warning("refused", **_names(message), why=uid.message)
            self._send(address, Refused(kind=uid.kind, reason=uid.message))
        elif isinstance(message, Attach | Begin | End):
            self._take_from_job(address, message, uid)
        elif uid not in self._trusted:
            refusals.warning("refused", **_names(message), uid=uid, why="not trusted")
            self._send(address, _not_trusted(uid))
        elif isinstance(message, Admit):
            self._admit(address, message, None if self._readings else "", began)
        elif isinstance(message, Finish):
            self._answer(address, hook_requests.finish(ledger, message))
        elif isinstance(message, GetEnds):
            self._answer(address, hook_requests.ends(ledger, message))
        elif isinstance(message, SetBackend):
            self._answer(address, self._backends.set(message))
        else:
            self._answer(address, reservation_requests.order(ledger, message))

    def _take_from_job(self, address: Address, message: Attach | Begin | End, uid: int) -> None:
        """A job's step, its TaskProlog or its TaskEpilog speaks."""
        ledger = self._ledger
        if not self._is_of_job(address[0], message.job_id):
            refusals.warning("refused", **_names(message), uid=uid, why="not a process of that job")
            self._send(address, step_sessions.another_job(message.job_id))
        elif ledger.trouble:
            self._send(address, Pending(reason=ledger.why_not_stored(), position=0))
        elif isinstance(message, Attach):
            self._answer_step(address, step_sessions.attach(ledger, message, uid))
        elif isinstance(message, Begin):
            self._answer_step(address, step_sessions.begin(ledger, message, uid))
        else:
            self._answer_step(address, step_sessions.over(ledger, message, uid))

    def _admit(self, address: Address, job: Admit, complaint: str | None, began: float) -> None:
        self._backends.look(self._fleet)
        answer = hook_requests.admit(self._ledger, job, complaint)
        if answer is None and job.envelope is not None and self._readings is not None:
            qubits = self._ledger.backends[job.backend].qubits
            self._readings.ask(
                job, job.envelope, qubits, lambda found: self._admit(address, job, found, began)
            )
            return
        if isinstance(answer, TurnedAway):
            # Why a job can never run may quote its circuit.
            why = answer.reason if answer.retry else None
            log.info("job turned away", **_names(job), again=answer.retry, why=why)
        if answer is not None:
            verdict = "admitted" if isinstance(answer, Admitted) else "later" if answer.retry else "never"
            self._ledger.meters.add("admissions", job.backend, verdict)
            self._ledger.meters.until_told("admission_seconds", began)
        if isinstance(answer, TurnedAway) and self._ledger.trouble:
            self._send(address, answer)  # it tells of nothing that would have to be stored first
        elif answer is not None:
            self._answer(address, answer)

    def _answer(self, address: Address, message: Message) -> None:
        self._answers.hold(address, message, time.monotonic(), to_step=False)

    def _answer_step(self, address: Address, message: Message) -> None:
        self._answers.hold(address, message, time.monotonic(), to_step=True)


def _names(message: Signed) -> dict[str, Field]:
    """What a line of the log calls a message, and the job it is about."""
    about = ("job_id", "restart", "center", "backend", "reservation")
    found: dict[str, Field] = {name.removesuffix("_id"): getattr(message, name, None) for name in about}
    return {"message": type(message).__name__} | found


def _not_trusted(uid: int) -> Refused:
    reason = f"Only this platform's operators may do that, not the user with uid {uid}."
    return Refused(kind="permission", reason=reason)
