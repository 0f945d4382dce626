"""The dispatcher's loop: one thread, one poll, everything that happens goes through it.

A plain poll loop rather than asyncio: the loop owns the ledger and the store, so there is nothing to lock and
nothing to await; each round takes in what has come, gives idle quantum runtimes their next circuits, stores
all changes in one transaction (a group commit), and only then tells anybody. It starts faster, too.
What may take its time (munged, reading a job's circuit) is done by a few threads that hand their answers back.
"""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qslurm.dispatcher import jobs, reserving, sessions, work
from qslurm.dispatcher.answers import Answers, To
from qslurm.dispatcher.callers import Callers
from qslurm.dispatcher.checks import Checks, Sender
from qslurm.dispatcher.commits import Commits
from qslurm.dispatcher.config import RemoteConfig, SessionsConfig
from qslurm.dispatcher.credentials import Identity
from qslurm.dispatcher.door import Door
from qslurm.dispatcher.fleet import Fleet
from qslurm.dispatcher.front import Front
from qslurm.dispatcher.idle import Idle
from qslurm.dispatcher.leases import Leases
from qslurm.dispatcher.ledger import Ledger
from qslurm.dispatcher.messages import (
    END,
    Admit,
    Admitted,
    Attach,
    Attend,
    Await,
    Begin,
    Conclude,
    End,
    Execute,
    Finish,
    GetMetrics,
    GetStatus,
    LeaseOver,
    Message,
    Pending,
    Refused,
    Release,
    Reserve,
    SetBackend,
    TurnedAway,
)
from qslurm.dispatcher.pool import Pool
from qslurm.dispatcher.remotes import Remotes
from qslurm.dispatcher.status import Backends
from qslurm.dispatcher.threads import Threads
from qslurm.dispatcher.views import NOT_ASKED, Viewer, Views, viewer
from qslurm.dispatcher.wire import Address, Parcel, decode_request, encode, open_parcel
from qslurm.errors import InvalidInputError, QslurmError
from qslurm.eventlog import EventLog
from qslurm.logfmt import Field
from qslurm.payload.envelope import Envelope
from qslurm.runtimes.lane_client import door_of

if TYPE_CHECKING:
    import socket

    import zmq

log = EventLog(__name__)

_BATCH = 64  # messages taken in before anything else gets its turn
_IDLE_S = 10.0
_WORD_S = 5.0  # between two words to a session's client about a circuit that waits

_NOT_KNOWN = Refused(kind="session", reason="This session is not known: attach again.")
_TOO_MANY = Refused(kind="unreachable", reason="Too many ask at once; ask again.")

ReadJob = Callable[[Envelope, int], str]
Signed = Admit | Finish | SetBackend | Reserve | Release | Attach | Begin | End


@dataclass(frozen=True)
class Limits:
    """Which uids may give orders, and how long a circuit may take."""

    trusted: frozenset[int]
    execution_limit_s: float


class Server:
    """Serves until `stop` is called. `read` finds what speaks against a job's data (None: it is not read)."""

    def __init__(
        self,
        ledger: Ledger,
        identity: Identity,
        limits: Limits,
        *,
        context: zmq.Context[zmq.Socket[bytes]],
        folder: Path,
        read: ReadJob | None,
        logbooks: str | None = None,
        remote: RemoteConfig | None = None,
        callers: SessionsConfig | None = None,
    ) -> None:
        import zmq

        self._callers: Callers | None = None  # first: its port may be taken
        if callers is not None:
            self._callers = Callers(
                callers,
                enter=lambda secret: sessions.enter(ledger, secret),
                is_open=lambda task: task in ledger.tasks,
            )
        self._ledger = ledger
        self._trusted = limits.trusted
        self._read = read
        self._context = context
        limit_s, numbers = limits.execution_limit_s, itertools.count(1)
        self._pool = Pool(
            context, ledger.backends.values(), folder, limit_s=limit_s, logbooks=logbooks, numbers=numbers
        )
        self._remotes = Remotes(context, ledger, remote, limit_s=limit_s, numbers=numbers) if remote else None
        self._fleet = Fleet(self._pool, self._remotes)
        self._door = Door(lambda task, secret, uid: sessions.may_have_lane(ledger, task, secret, uid))
        self._leases = Leases(ledger, self._pool, self._door)
        self._idle = Idle(ledger)
        self._after_lease: dict[int, list[tuple[Address, Execute]]] = {}
        self._watched: set[int] = set()
        self._backends = Backends(ledger)
        self._answers = Answers(self._send)
        self._threads = Threads()
        self._checks = Checks(identity, self._threads)
        self._trusted_checks = Checks(identity, self._threads, "trust")  # nor must anybody else
        self._lookers = Checks(identity, self._threads, "look")  # who only looks must not keep hooks waiting
        self._views = Views(ledger, self._fleet, self._backends, self._leases)
        self._commits = Commits(ledger)
        self._stopping = False
        self._front = Front(self._trusted | {0, os.getuid()})
        self._poller = zmq.Poller()
        for source in (self._pool.router, self._threads.ear, self._front.ear):
            self._poller.register(source, zmq.POLLIN)
        for source in self._remotes.sources if self._remotes else ():
            self._poller.register(source, zmq.POLLIN)
        if self._callers is not None:
            self._poller.register(self._callers.ear, zmq.POLLIN)

    def listen(self, path: str) -> None:
        """Take questions at a Unix socket with this path; beside it, lanes are handed out."""
        self._front.listen(path)
        self._door.listen(door_of(path))

    def bind_remote(self) -> str:
        """Let quantum runtimes on other hosts join, if they are configured; where, or nothing."""
        return self._remotes.bind() if self._remotes else ""

    @property
    def place_of_callers(self) -> str:
        """Where sessions' clients come to, or nothing."""
        return self._callers.place if self._callers else ""

    def let_in(self, connection: socket.socket, door: socket.socket) -> None:
        """Take questions over this connection, too, and hand out lanes at that door; only before `run`."""
        self._front.welcome(connection)
        self._door.let_in(door)

    @property
    def bell(self) -> int:
        """A descriptor that wakes the loop when a byte is written to it (for signal.set_wakeup_fd)."""
        return self._threads.bell

    def stop(self) -> None:
        """Let `run` return; may be called from any thread and from a signal handler."""
        self._stopping = True
        self._threads.ring()

    def run(self) -> None:
        """Serve. When it returns, every process is gone and what could be stored is stored."""
        try:
            while not self._stopping:
                self._round()
        finally:
            self._pool.close(self._leases.close)
            self._store(time.monotonic())
            self._door.close()
            self._threads.close()
            if self._remotes is not None:
                self._remotes.close()
            if self._callers is not None:
                self._callers.close()
            self._front.close()

    def _round(self) -> None:
        import zmq

        for runtime in self._pool.fill(time.monotonic()):
            self._poller.register(runtime.pidfd, zmq.POLLIN)
        self._watch_door()
        ready = dict(self._poller.poll(self._patience_ms()))
        self._leases.read()
        for descriptor in self._watched & ready.keys():
            del ready[descriptor]
            said = self._door.hear(descriptor)
            if said is not None:
                self._take_from_guest(*said)
        if ready.pop(self._threads.ear, None):
            self._threads.hand_over()
        if ready.pop(self._pool.router, None):
            self._hear_runtimes()
        if ready.pop(self._front.ear, None) or self._front.waiting:
            self._hear()
        if self._callers is not None and (ready.pop(self._callers.ear, None) or self._callers.waiting):
            self._hear_callers(self._callers)
        if self._remotes is not None:
            self._look_after_remotes(self._remotes, ready)
        for pidfd in ready:  # nothing else is registered
            self._lose(int(pidfd))
        now = time.monotonic()
        self._pool.kill_overdue(now)
        self._idle.look(now)
        self._assign(now)
        self._store(now)
        self._leases.look(now)
        self._backends.look(self._fleet)
        for runtime in self._pool.idle():
            self._leases.lend(runtime, now)
        for (task, seq), address in self._answers.impatient(now):
            self._send(address, sessions.pending(self._ledger, task, seq))
            if self._callers is not None and isinstance(address, tuple) and self._callers.owns(address):
                self._answers.wait((task, seq), address, now, _WORD_S)  # it is told without asking again

    def _patience_ms(self) -> int:
        if self._front.waiting or (self._callers is not None and self._callers.waiting):
            return 0
        now = time.monotonic()
        parts = (self._answers, self._pool, self._ledger, self._commits, self._idle)
        first = min(
            now + _IDLE_S,
            self._front.look(now),
            self._leases.next_event(now),
            *(part.next_event() for part in parts),
        )
        if self._remotes is not None:
            first = min(first, self._remotes.next_event())
        if self._callers is not None:
            first = min(first, self._callers.look(now))
        return max(0, int((first - now) * 1000) + 1)

    # --- what comes in -------------------------------------------------------------------------------

    def _hear(self) -> None:
        for frames in self._front.hear(_BATCH):
            parcel = open_parcel(frames)
            if parcel is None:
                log.debug("something came that is no message")
                continue
            try:
                message = decode_request(parcel.body)
            except InvalidInputError as error:
                self._send(parcel.address, Refused(kind=error.kind, reason=error.message))
                continue
            self._take(parcel, message)

    def _take(self, parcel: Parcel, message: Message) -> None:
        match message:
            case GetStatus():
                self._show(parcel, message)
            case GetMetrics():
                checks, owner = self._who_checks(parcel, self._lookers)
                if not checks.ask(parcel, lambda sender: self._show_metrics(parcel.address, sender), owner):
                    self._send(parcel.address, _TOO_MANY)
            case Execute() | Await() | Conclude() | Attend():
                self._take_from_step(parcel, message)
            case Admit() | Finish() | SetBackend() | Reserve() | Release() | Attach() | Begin() | End():
                self._check(parcel, message)
            case _:
                self._send(parcel.address, Refused(kind="permission", reason="That is not for this socket."))

    def _hear_callers(self, callers: Callers) -> None:
        for address, task, body in callers.hear(_BATCH):
            try:
                message: Message | None = decode_request(body)
            except InvalidInputError:
                message = None
            if not isinstance(message, Execute | Await | Conclude) or message.task != task:
                self._send(address, Refused(kind="permission", reason="That is not for this session."))
            elif task not in self._ledger.tasks:
                self._send(address, _NOT_KNOWN)
            else:
                self._idle.used(task, time.monotonic())
                self._take_from_session(address, message)

    def _take_from_step(self, parcel: Parcel, message: Execute | Await | Conclude | Attend) -> None:
        if not sessions.is_session(self._ledger, message.task, parcel.credential):
            self._send(parcel.address, _NOT_KNOWN)
        elif isinstance(message, Attend):
            now = time.monotonic()
            self._idle.begin(message.task, now)
            self._answers.wait((message.task, END), parcel.address, now)
        else:
            self._take_from_session(parcel.address, message)

    def _take_from_session(self, address: Address, message: Execute | Await | Conclude) -> None:
        ledger = self._ledger
        if ledger.trouble and not isinstance(message, Await):
            self._send(address, sessions.pending(ledger, message.task, -1))
            return
        answer: Message | None
        if isinstance(message, Conclude):
            answer = sessions.conclude(ledger, message)
        elif isinstance(message, Execute):
            if self._leases.holds(message.task):  # wait until nothing that it asks for can be executing
                self._after_lease.setdefault(message.task, []).append((address, message))
                self._leases.stop(message.task)
                return
            self._leases.drop(message.task)
            self._leases.asked(message)
            answer = sessions.execute(ledger, message)
            if answer is None and not message.wait:
                answer = sessions.pending(ledger, message.task, message.seq)
        else:
            answer = sessions.outcome(ledger, message.task, message.seq)
        if answer is not None:
            self._answer_step(address, answer)
        elif not isinstance(message, Conclude):
            self._answers.wait((message.task, message.seq), address, time.monotonic())

    def _take_from_guest(self, task: int, data: bytes) -> None:
        """Who has shown at the door whose client it is may hand in the task's final result there, and nothing else."""
        try:
            message: Message | None = decode_request(data)
        except InvalidInputError:
            message = None
        if not isinstance(message, Conclude) or message.task != task or self._ledger.trouble:
            self._door.send_away(task)  # if it meant well, it asks again elsewhere
        elif task in self._ledger.tasks:
            self._answer_step(task, sessions.conclude(self._ledger, message))

    # --- lanes ---------------------------------------------------------------------------------------

    def _watch_door(self) -> None:
        import zmq

        there = self._door.descriptors()
        for descriptor in self._watched - there:
            self._poller.unregister(descriptor)
        for descriptor in there - self._watched:
            self._poller.register(descriptor, zmq.POLLIN)
        self._watched = there

    def _resume(self, tasks: tuple[int, ...]) -> None:
        """A lease has ended: take what its tasks have asked for meanwhile."""
        for task in tasks:
            for address, message in self._after_lease.pop(task, []):
                if task in self._ledger.tasks:
                    self._take_from_session(address, message)
                else:
                    self._send(address, _NOT_KNOWN)

    # --- who says so? --------------------------------------------------------------------------------

    def _show(self, parcel: Parcel, message: GetStatus) -> None:
        def show(eyes: Viewer) -> None:
            self._send(parcel.address, self._views.status(message, eyes))

        checks, owner = self._who_checks(parcel, self._lookers)
        if not message.jobs:
            show(Viewer("none", why=NOT_ASKED))
        elif not checks.ask(parcel, lambda sender: show(viewer(sender, self._trusted)), owner):
            show(Viewer("none", why="too many ask at once"))

    def _who_checks(self, parcel: Parcel, checks: Checks) -> tuple[Checks, int | None]:
        """Who checks a credential, and the user whose turn that is."""
        owner = self._front.owner(parcel.address[0])
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

    def _check(self, parcel: Parcel, message: Signed) -> None:
        began = self._ledger.timer()
        checks, owner = self._who_checks(parcel, self._checks)
        if not checks.ask(
            parcel, lambda sender: self._take_signed(parcel.address, message, sender, began), owner
        ):
            self._send(parcel.address, _TOO_MANY)

    def _take_signed(self, address: Address, message: Signed, uid: Sender, began: float) -> None:
        ledger = self._ledger
        if isinstance(uid, QslurmError):
            log.warning("refused", **_names(message), why=uid.message)
            self._send(address, Refused(kind=uid.kind, reason=uid.message))
        elif isinstance(message, Attach | Begin | End):
            if ledger.trouble:
                self._send(address, Pending(reason=ledger.why_not_stored(), position=0))
            elif isinstance(message, Attach):
                self._answer_step(address, sessions.attach(ledger, message, uid))
            elif isinstance(message, Begin):
                self._answer_step(address, sessions.begin(ledger, message, uid))
            else:
                self._answer_step(address, sessions.over(ledger, message, uid))
        elif uid not in self._trusted:
            log.warning("refused", **_names(message), uid=uid, why="not trusted")
            self._send(address, _not_trusted(uid))
        elif isinstance(message, Admit):
            self._admit(address, message, None if self._read else "", began)
        elif isinstance(message, Finish):
            self._answer(address, jobs.finish(ledger, message))
        elif isinstance(message, SetBackend):
            self._answer(address, self._backends.set(message))
        else:
            self._answer(address, reserving.order(ledger, message))

    def _admit(self, address: Address, job: Admit, complaint: str | None, began: float) -> None:
        self._backends.look(self._fleet)
        answer = jobs.admit(self._ledger, job, complaint)
        envelope, read = job.envelope, self._read
        if answer is None and envelope is not None and read is not None:
            qubits = self._ledger.backends[job.backend].qubits
            self._threads.do(
                "read",
                lambda: read(envelope, qubits),
                lambda found: self._admit(address, job, found, began),
                job=job.job_id,
                center=job.center,
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

    # --- quantum runtimes ----------------------------------------------------------------------------

    def _assign(self, now: float) -> None:
        for number in self._ledger.doomed:
            self._pool.kill(number, "Its work was withdrawn")
        if self._remotes is not None:
            self._remotes.drop(self._ledger.doomed)
        self._ledger.doomed.clear()
        for runtime in self._pool.idle():
            run = work.assign(self._ledger, runtime.backend, runtime.number)
            if run is not None:
                left_s, used_up = work.left_s(self._ledger, run.order)
                self._pool.send(runtime, run, time.monotonic(), left_s=left_s, used_up=used_up)
        if self._remotes is not None:
            self._remotes.assign(now)

    def _look_after_remotes(self, remotes: Remotes, ready: dict[Any, int]) -> None:
        for source in remotes.sources:
            ready.pop(source, None)
        now = time.monotonic()
        remotes.hear(now)
        remotes.look(now)

    def _hear_runtimes(self) -> None:
        now = time.monotonic()
        for message in self._pool.hear():
            if isinstance(message, LeaseOver):
                self._resume(self._leases.over(message))
                continue
            task = work.result(self._ledger, message)
            if task is not None:
                self._leases.served(task, self._pool.runtimes[message.runtime], now)

    def _lose(self, pidfd: int) -> None:
        self._poller.unregister(pidfd)
        runtime, why = self._pool.dead(pidfd)
        fail = bool(runtime.killed_because)
        self._ledger.meters.add("runtimes_lost", runtime.backend)
        work.lost(self._ledger, runtime.number, why, fail=fail)
        tasks = self._leases.lost(runtime, why, fail=fail)
        self._pool.forget(runtime)
        self._resume(tasks)

    # --- what goes out -------------------------------------------------------------------------------

    def _store(self, now: float) -> None:
        """Store what has changed; only then tell anybody."""
        ledger, in_trouble = self._ledger, bool(self._ledger.trouble)
        self._note_settled(now)
        self._answers.settle(ledger.settled, now)
        ledger.settled.clear()
        if not self._commits.commit(now, at_once=self._stopping):
            self._answers.put_off(ledger.why_not_stored(), now)
            return
        self._pool.stored()
        if in_trouble and not ledger.trouble:
            self._threads.ring()  # what was kept from starting may start
        self._answers.send_held()
        ledger.meters.told(ledger.timer())
        if self._remotes is not None:
            self._remotes.confirm()

    def _note_settled(self, now: float) -> None:
        """What concerns sessions whose clients are elsewhere: they are in use, or their clients hear of the end."""
        for task, seq, message in self._ledger.settled:
            self._idle.used(task, now)
            address = self._callers.address_of(task) if self._callers and seq == END else None
            if address is not None:
                self._answer_step(address, message)

    def _answer(self, address: Address, message: Message) -> None:
        self._answers.hold(address, message, time.monotonic(), to_step=False)

    def _answer_step(self, address: To, message: Message) -> None:
        self._answers.hold(address, message, time.monotonic(), to_step=True)

    def _send(self, address: To, message: Message) -> None:
        if isinstance(address, int):
            self._door.tell(address, encode(message))
            return
        if self._callers is not None and self._callers.owns(address):
            self._callers.send(address, message, final=not isinstance(message, Pending))
            return
        self._front.send([*address, b"", encode(message)])


def _names(message: Signed) -> dict[str, Field]:
    """What a line of the log calls a message, and the job it is about."""
    about = ("job_id", "restart", "center", "backend", "reservation")
    found: dict[str, Field] = {name.removesuffix("_id"): getattr(message, name, None) for name in about}
    return {"message": type(message).__name__} | found


def _not_trusted(uid: int) -> Refused:
    reason = f"Only this platform's operators may do that, not the user with uid {uid}."
    return Refused(kind="permission", reason=reason)
