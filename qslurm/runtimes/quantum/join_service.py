"""`qslurm runtimes join`: quantum runtimes of this host, for a dispatcher on another one.

The worker processes are those that the dispatcher starts on its own host (runtimes/quantum/pool.py): started, watched,
killed and replaced here. Between them and the dispatcher stands one encrypted connection, which may break: what is
executing goes on, and what came out is kept until the dispatcher has it.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qslurm.errors import InvalidInputError, QslurmError
from qslurm.protocol.curve import zap
from qslurm.protocol.curve.key_files import read_keys, read_public
from qslurm.protocol.messages import Message
from qslurm.protocol.messages.remote_runtimes import (
    FRAME_LIMIT,
    MISSED_HEARTBEATS,
    PROTOCOL,
    Assign,
    Declined,
    DropOrder,
    Enlist,
    Enlisted,
    Heartbeat,
    HeartbeatReply,
    Leave,
    RemoteResult,
    ResultAcknowledged,
    decode_to_runtime,
    encode_frames,
)
from qslurm.runtimes.health import Health
from qslurm.runtimes.quantum.assigned_work import AssignedWork
from qslurm.system.event_log import EventLog, configure
from qslurm.system.signals import signals_stop

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
        zap.authenticate_to(link, keys, server)
        agent = JoinService(context, link, settings)
        with signals_stop(agent.stop, agent.bell):
            agent.run()


class JoinService:
    """One thread and one poll, as the dispatcher has them."""

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        link: zmq.Socket[bytes],
        settings: JoinSettings,
    ) -> None:
        import zmq

        self._settings = settings
        self._instance = os.urandom(16)
        self._welcome: Enlisted | None = None
        self._enlisted = self._asked = self._refused = False
        self._attempt = 0
        self._heard = self._next_word = 0.0
        self._complaint = ""
        self._reported: Health | None = None
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
        self._work = AssignedWork(context, self._poller, self._instance, self._tell)

    def stop(self) -> None:
        """Let `run` return; may be called from a signal handler."""
        self._stopping = True

    def run(self) -> None:
        """Execute what comes. When it returns, every process is gone."""
        import zmq

        try:
            self._link.connect(self._settings.connect)
        except zmq.ZMQError as error:
            raise InvalidInputError(f"Cannot connect to {self._settings.connect}: {error}.") from error
        log.info("connecting to the dispatcher", at=self._settings.connect)
        try:
            while not self._stopping:
                self._round()
            self._say(Leave(instance=self._instance))
        finally:
            self._work.close()
            self._link.disable_monitor()
            self._changes.close(linger=0)
            self._link.close()

    def _round(self) -> None:

        now = time.monotonic()
        self._work.fill(now)
        self._speak(now)
        ready: dict[Any, int] = dict(self._poller.poll(self._poll_timeout_ms(now)))
        if ready.pop(self._changes, None):
            self._hear_changes()
        if ready.pop(self._ear, None):
            os.read(self._ear, 4096)
        if ready.pop(self._link, None):
            self._hear()
        self._work.look_after()

    def _poll_timeout_ms(self, now: float) -> int:
        first = min(self._next_word, self._work.next_event())
        return max(0, int((first - now) * 1000) + 1)

    # --- what is said --------------------------------------------------------------------------------

    def _speak(self, now: float) -> None:
        welcome = self._welcome
        if welcome is not None and now - self._heard > welcome.beat_s * MISSED_HEARTBEATS:
            self._enlisted = False
        health = self._work.health()
        if now < self._next_word and (not self._enlisted or health == self._reported):
            return
        if welcome is None or not self._enlisted:
            self._next_word = now + _ENLIST_S
            if self._refused:  # libzmq does not try again then
                self._refused = False
                self._link.disconnect(self._settings.connect)
                self._link.connect(self._settings.connect)
            if not self._asked:
                self._attempt += 1
                self._asked = self._say(self._enlistment())
            return
        self._next_word = now + welcome.beat_s
        self._reported = health
        self._say(Heartbeat(instance=self._instance, health=health, backend_type=self._work.backend_type))

    def _enlistment(self) -> Enlist:
        return Enlist(
            protocol=PROTOCOL,
            backend=self._settings.backend,
            instance=self._instance,
            workers=self._settings.workers,
            claims=self._work.claims(),
            attempt=self._attempt,
        )

    def _say(self, message: Message) -> bool:
        """False if nobody is there; all is said again to who comes."""
        import zmq

        try:
            self._link.send_multipart(encode_frames(message), zmq.NOBLOCK)
        except zmq.Again:
            self._enlisted = False
            return False
        return True

    # --- what is heard -------------------------------------------------------------------------------

    def _hear_changes(self) -> None:
        import zmq
        from zmq.utils.monitor import parse_monitor_message

        while True:
            try:
                event = parse_monitor_message(self._changes.recv_multipart(zmq.NOBLOCK))
            except zmq.Again:
                return
            self._enlisted = self._asked = False  # what was under way may be lost
            if event["event"] == int(zmq.EVENT_HANDSHAKE_SUCCEEDED):
                self._next_word = 0.0
            elif event["event"] == int(zmq.EVENT_HANDSHAKE_FAILED_AUTH):
                self._refused = True
                self._complain("the dispatcher does not accept this runtime's key")
            elif event["event"] == int(zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL):
                self._complain("the dispatcher's key is not the configured one")

    def _hear(self) -> None:
        import zmq

        while True:
            try:
                frames = self._link.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            try:
                message = decode_to_runtime(frames)
            except QslurmError as error:
                log.warning("malformed message from the dispatcher", why=error.message)
                continue
            self._heard = time.monotonic()
            self._take(message)

    def _take(self, message: Message) -> None:
        """Do what the dispatcher says.

        An order that it gave before it has read our last claims is not taken: it finds the order missing in them, and
        gives it again. Neither is a welcome to an earlier attempt: such an order may come behind it.
        """
        match message:
            case Enlisted() if message.attempt == self._attempt:
                self._begin(message)
            case Declined():
                self._asked = False
                self._complain(message.reason)
            case Assign() if self._enlisted:
                self._work.take(message)
            case DropOrder():
                self._work.drop(message.order)
            case ResultAcknowledged():
                self._work.taken(message.order)
            case HeartbeatReply() if not message.known:
                self._enlisted = False

    def _begin(self, welcome: Enlisted) -> None:
        log.info("joined", backend=welcome.backend.name, workers=welcome.workers)
        self._enlisted, self._asked, self._complaint, self._reported = True, False, "", None
        self._welcome = welcome
        self._work.begin(welcome)
        self._work.tell_again()

    def _tell(self, answer: RemoteResult) -> None:
        if self._enlisted:
            self._say(answer)

    def _complain(self, what: str) -> None:
        self._enlisted = False
        if what != self._complaint:
            self._complaint = what
            log.warning("refused by the dispatcher; retrying", why=what)
