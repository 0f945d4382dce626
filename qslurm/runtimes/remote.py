"""`qslurm runtimes join`: quantum runtimes of this host, for a dispatcher on another one.

The worker processes are those that the dispatcher starts on its own host (dispatcher/pool.py): started, watched, killed
and replaced here. Between them and the dispatcher stands one encrypted connection, which may break: what is executing
goes on, and what came out is kept until the dispatcher has it.
"""

from __future__ import annotations

import os
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qslurm.curve import zap
from qslurm.curve.keys import read_keys, read_public
from qslurm.dispatcher.messages import Message, Result
from qslurm.dispatcher.pool import Pool, temporary_folder
from qslurm.dispatcher.remote_messages import (
    FRAME_LIMIT,
    PROTOCOL,
    Answer,
    Assign,
    Beat,
    Claim,
    Declined,
    Drop,
    Enlist,
    Heard,
    Leave,
    Taken,
    Welcome,
    cut,
    to_runtime,
)
from qslurm.dispatcher.remotes import MISSED_BEATS
from qslurm.dispatcher.signals import signals_stop
from qslurm.dispatcher.status import REPLACEMENT_S
from qslurm.errors import InvalidInputError, QslurmError, UsedUpError
from qslurm.eventlog import EventLog, configure
from qslurm.runtimes.health import Health, TryLaterError

if TYPE_CHECKING:
    import zmq

log = EventLog(__name__)

_ENLIST_S = 0.5
_LINGER_MS = 500
_RECONNECT_MS = (100, 2000)
_HEARTBEAT_MS = (1000, 4000)


@dataclass(frozen=True)
class JoinSettings:
    """Where the dispatcher is and who it is, who we are, and for which backend; `workers` circuits at a time."""

    connect: str
    backend: str
    key: Path
    dispatcher_key: Path
    workers: int = 1


def join(settings: JoinSettings) -> None:
    """Execute circuits until SIGTERM or SIGINT. ConfigError if the keys can't be used.

    A dispatcher that is not there, or does not want us, is waited for.
    """
    import zmq

    keys, server = read_keys(settings.key), read_public(settings.dispatcher_key)
    configure("quantum-runtime")
    with zmq.Context() as context:
        link = context.socket(zmq.DEALER)
        zap.connect(link, keys, server)
        agent = Agent(context, link, settings, temporary_folder())
        with signals_stop(agent.stop, agent.bell):
            agent.run()


@dataclass(frozen=True)
class _Running:
    """What a worker process executes, and since when."""

    number: int
    given: Assign
    since: float


class Agent:
    """One thread and one poll, as the dispatcher has them."""

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        link: zmq.Socket[bytes],
        settings: JoinSettings,
        folder: Path,
    ) -> None:
        import zmq

        self._context = context
        self._settings = settings
        self._folder = folder
        self._instance = os.urandom(16)
        self._welcome: Welcome | None = None
        self._enlisted = self._refused = False
        self._heard = self._next_word = 0.0
        self._last_ready = float("-inf")
        self._complaint = ""
        self._reported: Health | None = None
        self._pool: Pool | None = None
        self._waiting: deque[Assign] = deque()
        self._running: dict[int, _Running] = {}  # by order
        self._answers: dict[int, Answer] = {}
        self._stopping = False
        self._ear, self.bell = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._link = link
        link.linger = _LINGER_MS
        link.immediate = 1  # what is said while nobody is there is not said
        link.maxmsgsize = FRAME_LIMIT
        link.reconnect_ivl, link.reconnect_ivl_max = _RECONNECT_MS
        link.handshake_ivl = zap.HANDSHAKE_MS
        link.heartbeat_ivl, link.heartbeat_timeout = _HEARTBEAT_MS  # TCP alone may take a quarter of an hour
        self._changes = link.get_monitor_socket(
            zmq.EVENT_DISCONNECTED
            | zmq.EVENT_HANDSHAKE_SUCCEEDED
            | zmq.EVENT_HANDSHAKE_FAILED_AUTH
            | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
        )
        self._poller = zmq.Poller()
        for source in (link, self._changes, self._ear):
            self._poller.register(source, zmq.POLLIN)

    def stop(self) -> None:
        """Let `run` return; may be called from a signal handler."""
        self._stopping = True

    def run(self) -> None:
        """Execute what comes. When it returns, every process is gone."""
        import zmq

        try:
            self._link.connect(self._settings.connect)
        except zmq.ZMQError as error:
            raise InvalidInputError(f"{self._settings.connect} can't be connected to: {error}.") from error
        log.info("looking for the dispatcher", at=self._settings.connect)
        try:
            while not self._stopping:
                self._round()
            self._say(Leave(instance=self._instance))
        finally:
            self._close_pool()
            self._link.disable_monitor()
            self._changes.close(linger=0)
            self._link.close()

    def _round(self) -> None:
        import zmq

        now = time.monotonic()
        if self._pool is not None:
            for runtime in self._pool.fill(now):
                self._poller.register(runtime.pidfd, zmq.POLLIN)
        self._speak(now)
        ready: dict[Any, int] = dict(self._poller.poll(self._patience_ms(now)))
        if ready.pop(self._changes, None):
            self._hear_changes()
        if ready.pop(self._ear, None):
            os.read(self._ear, 4096)
        if ready.pop(self._link, None):
            self._hear()
        if self._pool is not None:
            self._look_after(self._pool, ready)

    def _look_after(self, pool: Pool, ready: dict[Any, int]) -> None:
        ready.pop(pool.router, None)
        for result in pool.hear():
            if isinstance(result, Result):
                self._note_result(result)
        for pidfd in ready:
            if pidfd in {runtime.pidfd for runtime in pool.runtimes.values()}:  # it may be an old pool's
                self._lose(pool, int(pidfd))
        now = time.monotonic()
        pool.kill_overdue(now)
        for runtime in pool.idle():
            if self._waiting:
                given = self._waiting.popleft()
                self._running[given.claim.order] = _Running(runtime.number, given, time.monotonic())
                pool.send(runtime, given.run, now, left_s=given.left_s, used_up=given.used_up)

    def _patience_ms(self, now: float) -> int:
        first = self._next_word if self._pool is None else min(self._next_word, self._pool.next_event())
        return max(0, int((first - now) * 1000) + 1)

    # --- what is said --------------------------------------------------------------------------------

    def _speak(self, now: float) -> None:
        welcome = self._welcome
        if welcome is not None and now - self._heard > welcome.beat_s * MISSED_BEATS:
            self._enlisted = False
        health = self._health()
        if now < self._next_word and (not self._enlisted or health == self._reported):
            return
        if welcome is None or not self._enlisted:
            self._next_word = now + _ENLIST_S
            if self._refused:  # libzmq does not try again then
                self._refused = False
                self._link.disconnect(self._settings.connect)
                self._link.connect(self._settings.connect)
            self._say(self._enlistment())
            return
        self._next_word = now + welcome.beat_s
        self._reported = health
        backend_type = self._pool.backend_types.get(welcome.backend.name) if self._pool else None
        self._say(Beat(instance=self._instance, health=health, backend_type=backend_type))

    def _enlistment(self) -> Enlist:
        claims = [assign.claim for assign in self._waiting]
        claims += [running.given.claim for running in self._running.values()]
        claims += [answer.claim for answer in self._answers.values()]
        return Enlist(
            protocol=PROTOCOL,
            backend=self._settings.backend,
            instance=self._instance,
            workers=self._settings.workers,
            claims=claims,
        )

    def _health(self) -> Health:
        if self._pool is None or self._welcome is None:
            return Health("offline", "its quantum runtime is starting")
        backend = self._welcome.backend.name
        health = self._pool.health(backend)
        if health is not None:
            self._last_ready = time.monotonic()
            return health
        if time.monotonic() < self._last_ready + REPLACEMENT_S and backend not in self._pool.failures:
            return Health()
        return Health("offline", self._pool.failures.get(backend, "its quantum runtime is starting"))

    def _say(self, message: Message) -> None:
        import zmq

        try:
            self._link.send_multipart(cut(message), zmq.NOBLOCK)
        except zmq.Again:
            self._enlisted = False  # nobody is there; all is said again to who comes

    # --- what is heard -------------------------------------------------------------------------------

    def _hear_changes(self) -> None:
        import zmq
        from zmq.utils.monitor import parse_monitor_message

        while True:
            try:
                event = parse_monitor_message(self._changes.recv_multipart(zmq.NOBLOCK))
            except zmq.Again:
                return
            self._enlisted = False  # what was under way may be lost
            if event["event"] == int(zmq.EVENT_HANDSHAKE_SUCCEEDED):
                self._next_word = 0.0
            elif event["event"] == int(zmq.EVENT_HANDSHAKE_FAILED_AUTH):
                self._refused = True
                self._complain("it does not know our key")
            elif event["event"] == int(zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL):
                self._complain("it is not the one whose key we have")

    def _hear(self) -> None:
        import zmq

        while True:
            try:
                frames = self._link.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            try:
                message = to_runtime(frames)
            except QslurmError as error:
                log.warning("rubbish from the dispatcher", why=error.message)
                continue
            self._heard = time.monotonic()
            self._take(message)

    def _take(self, message: Message) -> None:
        match message:
            case Welcome():
                self._begin(message)
            case Declined():
                self._complain(message.reason)
            case Assign():
                self._waiting.append(message)
            case Drop():
                self._drop(message.order)
            case Taken():
                self._answers.pop(message.order, None)
            case Heard() if not message.known:
                self._enlisted = False

    def _begin(self, welcome: Welcome) -> None:
        log.info("joined", backend=welcome.backend.name, workers=welcome.workers)
        self._enlisted, self._complaint, self._reported = True, "", None
        for order in welcome.drop:
            self._drop(order)
        asked = (welcome.backend, welcome.workers, welcome.execution_limit_s)
        known = self._welcome
        self._welcome = welcome
        if known is None or asked != (known.backend, known.workers, known.execution_limit_s):
            self._start_pool(welcome)
        for answer in self._answers.values():
            self._say(answer)

    def _complain(self, what: str) -> None:
        self._enlisted = False
        if what != self._complaint:
            self._complaint = what
            log.warning("the dispatcher does not let us in; asking again", why=what)

    # --- what is done --------------------------------------------------------------------------------

    def _start_pool(self, welcome: Welcome) -> None:
        import msgspec
        import zmq

        self._close_pool()
        for running in list(self._running.values()):
            self._answer(running.given.claim, _lost("Its quantum runtime was started anew"))
        backend = msgspec.structs.replace(welcome.backend, workers=welcome.workers)
        self._pool = Pool(self._context, [backend], self._folder, limit_s=welcome.execution_limit_s)
        self._poller.register(self._pool.router, zmq.POLLIN)

    def _close_pool(self) -> None:
        pool = self._pool
        if pool is None:
            return
        self._pool = None
        self._poller.unregister(pool.router)
        for runtime in pool.runtimes.values():
            self._poller.unregister(runtime.pidfd)
        pool.close(lambda: None)

    def _note_result(self, result: Result) -> None:
        running = self._running.get(result.order)
        if running is not None:
            self._answer(running.given.claim, result)

    def _answer(self, claim: Claim, result: Result) -> None:
        self._running.pop(claim.order, None)
        answer = Answer(instance=self._instance, claim=claim, result=result)
        self._answers[claim.order] = answer
        if self._enlisted:
            self._say(answer)

    def _lose(self, pool: Pool, pidfd: int) -> None:
        self._poller.unregister(pidfd)
        runtime, why = pool.dead(pidfd)
        pool.forget(runtime)
        for running in list(self._running.values()):
            if running.number == runtime.number:
                self._answer(
                    running.given.claim, _ended(running, why) if runtime.killed_because else _lost(why)
                )

    def _drop(self, order: int) -> None:
        self._answers.pop(order, None)
        self._waiting = deque(assign for assign in self._waiting if assign.claim.order != order)
        running = self._running.pop(order, None)
        if running is not None and self._pool is not None:
            self._pool.kill(running.number, "Its work was withdrawn")


def _ended(running: _Running, why: str) -> Result:
    """Its process was ended, because of what it did."""
    kind = UsedUpError.kind if why == running.given.used_up else "job_failed"
    seconds = time.monotonic() - running.since
    return Result(runtime=0, order=0, error=f"{why}.", kind=kind, seconds=seconds)


def _lost(why: str) -> Result:
    """It counts as a try, and is tried once more."""
    return Result(runtime=0, order=0, error=f"{why}.", kind=TryLaterError.kind, begun=True)
