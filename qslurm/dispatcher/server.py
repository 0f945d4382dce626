"""The dispatcher's loop: one thread, one poll, everything that happens goes through it.

A plain poll loop rather than asyncio: the loop owns the ledger and the store, so there is nothing to lock and
nothing to await; each round takes in what has come, gives idle quantum runtimes their next circuits, stores all
changes in one transaction (a group commit), and only then tells anybody. It starts faster, too (`qslurm run`).
What may wait (munged, reading a job's circuit) is done by a few threads that hand their answers back.
"""

from __future__ import annotations

import logging
import os
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qslurm.dispatcher import jobs, sessions, work
from qslurm.dispatcher.credentials import Identity
from qslurm.dispatcher.ledger import Ledger
from qslurm.dispatcher.messages import (
    Admit,
    Attach,
    Await,
    Conclude,
    Execute,
    Finish,
    GetStatus,
    Message,
    Pending,
    Refused,
    SetBackend,
    Status,
    TurnedAway,
)
from qslurm.dispatcher.pool import Pool
from qslurm.dispatcher.status import Backends, task_status
from qslurm.dispatcher.wire import BODY_LIMIT, Address, Parcel, decode_request, encode, open_parcel
from qslurm.errors import InvalidInputError, QslurmError
from qslurm.payload.envelope import Envelope

if TYPE_CHECKING:
    import zmq

log = logging.getLogger(__name__)

HOLD_S = 1.0
"""How long a question about an execution is kept before it is answered with Pending."""

_BATCH = 64  # messages taken in before anything else gets its turn
_CONNECTION_BACKLOG = 64  # messages that one connection may have waiting
_CHECKS = 64  # credentials being checked at a time; who comes then is asked to come again
_STALE_S = 5.0  # answers that could not be sent for so long are not waited for any more
_RETRY_S = (0.2, 0.5, 1.0, 2.0, 5.0)  # between attempts to store

ReadJob = Callable[[Envelope, int], str]


@dataclass(frozen=True)
class Limits:
    """Who may give orders, and how long a circuit may take."""

    trusted: frozenset[int]
    execution_limit_s: float


@dataclass
class _Outbox:
    """Answers that may be sent once everything that came before is stored."""

    answers: list[tuple[float, Address, Message]] = field(default_factory=list)

    def drop_stale(self, now: float) -> None:
        self.answers = [answer for answer in self.answers if now - answer[0] < _STALE_S]


class Server:
    """Serves until `stop` is called. `read` finds out what speaks against a job's data (None: nothing is read)."""

    def __init__(
        self,
        ledger: Ledger,
        identity: Identity,
        limits: Limits,
        *,
        context: zmq.Context[zmq.Socket[bytes]],
        folder: Path,
        read: ReadJob | None,
    ) -> None:
        import zmq

        self._ledger = ledger
        self._identity = identity
        self._limits = limits
        self._read = read
        self._front = context.socket(zmq.ROUTER)
        self._front.linger = 200
        self._front.maxmsgsize = BODY_LIMIT
        self._front.rcvhwm = _CONNECTION_BACKLOG
        self._pool = Pool(context, ledger.backends.values(), folder, limit_s=limits.execution_limit_s)
        self._backends = Backends(ledger)
        self._outbox = _Outbox()
        self._waiting: dict[tuple[int, int], dict[Address, float]] = {}
        self._handed_back: deque[Callable[[], None]] = deque()
        self._threads = ThreadPoolExecutor(max_workers=4, thread_name_prefix="qslurm-check")
        self._checks = 0
        self._failed_stores = 0
        self._store_again = 0.0
        self._stopping = False
        self._ear, self._bell = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._poller = zmq.Poller()
        for source in (self._front, self._pool.router, self._ear):
            self._poller.register(source, zmq.POLLIN)

    def bind(self, endpoint: str) -> None:
        """Listen at a ZeroMQ endpoint."""
        self._front.bind(endpoint)

    @property
    def bell(self) -> int:
        """A descriptor that wakes the loop when a byte is written to it (for signal.set_wakeup_fd)."""
        return self._bell

    def stop(self) -> None:
        """Let `run` return; may be called from any thread and from a signal handler."""
        self._stopping = True
        os.write(self._bell, b"\0")

    def run(self) -> None:
        """Serve. When it returns, every process is gone and what could be stored is stored."""
        try:
            while not self._stopping:
                self._round()
            self._store(time.monotonic())
        finally:
            self._pool.close()
            self._threads.shutdown(wait=False, cancel_futures=True)
            self._front.close()
            os.close(self._ear)
            os.close(self._bell)

    def _round(self) -> None:
        import zmq

        now = time.monotonic()
        for runtime in self._pool.fill(now):
            self._poller.register(runtime.pidfd, zmq.POLLIN)
        ready = dict(self._poller.poll(self._patience_ms(now)))
        if self._ear in ready:
            os.read(self._ear, 4096)
        while self._handed_back:
            self._handed_back.popleft()()
        now = time.monotonic()
        if self._pool.router in ready:
            for result in self._pool.hear():
                work.result(self._ledger, result)
        if self._front in ready:
            self._hear()
        for pidfd in [source for source in ready if isinstance(source, int) and source != self._ear]:
            self._lose(pidfd)
        self._pool.kill_overdue(now)
        self._backends.look(self._pool)
        self._assign(now)
        self._store(now)
        self._answer_late(time.monotonic())

    # --- what comes in -------------------------------------------------------------------------------

    def _hear(self) -> None:
        import zmq

        for _ in range(_BATCH):
            try:
                frames = self._front.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
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
                self._send(parcel.address, self.status())
            case Execute() | Await() | Conclude():
                self._take_from_session(parcel, message)
            case Admit() | Finish() | SetBackend() | Attach():
                self._check(parcel, message)
            case _:
                self._send(parcel.address, Refused(kind="permission", reason="That is not for this socket."))

    def _take_from_session(self, parcel: Parcel, message: Execute | Await | Conclude) -> None:
        ledger, address = self._ledger, parcel.address
        if not sessions.is_session(ledger, message.task, parcel.credential):
            self._send(address, Refused(kind="session", reason="This session is not known: attach again."))
        elif ledger.trouble and not isinstance(message, Await):
            self._send(address, sessions.pending(ledger, message.task, -1))
        elif isinstance(message, Conclude):
            self._answer(address, sessions.conclude(ledger, message))
        else:
            asked = isinstance(message, Execute)
            answer = (
                sessions.execute(ledger, message)
                if isinstance(message, Execute)
                else sessions.outcome(ledger, message.task, message.seq)
            )
            if answer is not None:
                self._answer(address, answer)
                return
            self._waiting.setdefault((message.task, message.seq), {})[address] = time.monotonic() + HOLD_S
            if asked:
                log.debug("task=%d seq=%d asked for", message.task, message.seq)

    # --- who says so? --------------------------------------------------------------------------------

    def _check(self, parcel: Parcel, message: Admit | Finish | SetBackend | Attach) -> None:
        if self._identity.instant:
            self._take_checked(parcel, message, self._identity.verify(parcel.credential, parcel.body))
            return
        if self._checks >= _CHECKS:
            self._send(parcel.address, Refused(kind="unreachable", reason="Too many ask at once; ask again."))
            return
        self._checks += 1

        def check() -> None:
            try:
                uid: int | QslurmError = self._identity.verify(parcel.credential, parcel.body)
            except QslurmError as error:
                uid = error
            self._hand_back(lambda: self._checked(parcel, message, uid))

        self._threads.submit(check)

    def _checked(
        self, parcel: Parcel, message: Admit | Finish | SetBackend | Attach, uid: int | QslurmError
    ) -> None:
        self._checks -= 1
        if isinstance(uid, QslurmError):
            log.warning("%s refused: %s", type(message).__name__, uid.message)
            self._send(parcel.address, Refused(kind=uid.kind, reason=uid.message))
        else:
            self._take_checked(parcel, message, uid)

    def _take_checked(self, parcel: Parcel, message: Admit | Finish | SetBackend | Attach, uid: int) -> None:
        ledger, address = self._ledger, parcel.address
        if isinstance(message, Attach):
            if ledger.trouble:
                self._send(address, Pending(reason=f"results can't be stored: {ledger.trouble}", position=0))
            else:
                self._answer(address, sessions.attach(ledger, message, uid))
        elif uid not in self._limits.trusted:
            log.warning("uid=%d may not send %s", uid, type(message).__name__)
            reason = f"Only this platform's operators may do that, not the user with uid {uid}."
            self._send(address, Refused(kind="permission", reason=reason))
        elif isinstance(message, Admit):
            self._admit(address, message, None if self._read else "")
        elif isinstance(message, Finish):
            self._answer(address, jobs.finish(ledger, message))
        else:
            self._answer(address, self._backends.set(message))

    def _admit(self, address: Address, job: Admit, complaint: str | None) -> None:
        self._backends.look(self._pool)
        answer = jobs.admit(self._ledger, job, complaint)
        if answer is not None:
            if isinstance(answer, TurnedAway):
                log.info(
                    "job=%d restart=%d center=%s turned away, retry=%s",
                    job.job_id,
                    job.restart,
                    job.center,
                    answer.retry,
                )
            self._answer(address, answer)
            return
        envelope, read = job.envelope, self._read
        if envelope is None or read is None:
            raise QslurmError("There is nothing to read.")
        qubits = self._ledger.backends[job.backend].qubits

        def find_out() -> None:
            complaint = read(envelope, qubits)
            self._hand_back(lambda: self._admit(address, job, complaint))

        self._threads.submit(find_out)

    def _hand_back(self, act: Callable[[], None]) -> None:
        self._handed_back.append(act)
        try:
            os.write(self._bell, b"\0")
        except OSError:  # full: it is awake already; closed: it has stopped
            log.debug("the bell was not rung")

    # --- quantum runtimes ----------------------------------------------------------------------------

    def _assign(self, now: float) -> None:
        for number in self._ledger.doomed:
            self._pool.kill(number, "Its work was withdrawn")
        self._ledger.doomed.clear()
        for runtime in self._pool.idle():
            run = work.assign(self._ledger, runtime.backend, runtime.number)
            if run is not None:
                self._pool.send(runtime, run, now)

    def _lose(self, pidfd: int) -> None:
        self._poller.unregister(pidfd)
        runtime, why = self._pool.lost(pidfd)
        work.lost(self._ledger, runtime.number, why, fail=bool(runtime.killed_because))

    # --- what goes out -------------------------------------------------------------------------------

    def _store(self, now: float) -> None:
        ledger = self._ledger
        for task, seq, message in ledger.settled:
            for address in self._waiting.pop((task, seq), {}):
                self._answer(address, message)
        ledger.settled.clear()
        if ledger.changes:
            if ledger.trouble and now < self._store_again and not self._stopping:
                self._outbox.drop_stale(now)
                return
            trouble = ledger.store.commit(ledger.changes)
            self._note_trouble(trouble, now)
            if trouble:
                return
            ledger.stored()
        for _, address, message in self._outbox.answers:
            self._send(address, message)
        self._outbox.answers.clear()

    def _note_trouble(self, trouble: str, now: float) -> None:
        if trouble:
            pause = _RETRY_S[min(self._failed_stores, len(_RETRY_S) - 1)]
            self._failed_stores += 1
            self._store_again = now + pause
            if not self._ledger.trouble:
                log.error("the store takes nothing: %s; nothing new is admitted until it does", trouble)
        elif self._ledger.trouble:
            log.warning("the store takes everything again")
            self._failed_stores = 0
            self._hand_back(lambda: None)  # what was kept from starting may start
        self._ledger.trouble = trouble

    def _answer(self, address: Address, message: Message) -> None:
        self._outbox.answers.append((time.monotonic(), address, message))

    def _send(self, address: Address, message: Message) -> None:
        self._front.send_multipart([*address, b"", encode(message)])

    def _answer_late(self, now: float) -> None:
        for (task, seq), addresses in list(self._waiting.items()):
            for address in [address for address, until in addresses.items() if until <= now]:
                del addresses[address]
                self._send(address, sessions.pending(self._ledger, task, seq))
            if not addresses:
                del self._waiting[task, seq]

    def _patience_ms(self, now: float) -> int:
        times = [until for addresses in self._waiting.values() for until in addresses.values()]
        times.append(self._pool.next_event())
        if self._ledger.changes:
            times.append(self._store_again)
        first = min(times)
        return 10_000 if first == float("inf") else max(0, min(10_000, int((first - now) * 1000) + 1))

    def status(self) -> Status:
        """The answer to GetStatus."""
        tasks: list[Any] = [task_status(task) for task in self._ledger.tasks.values()]
        return self._backends.status(self._pool, tasks)
