"""`qslurm runtimes join`: quantum runtimes of this host, for a dispatcher on another one.

The worker processes are the same as on the dispatcher's host (runtimes/quantum/pool.py): started, watched,
killed and replaced here. They reach the dispatcher through one encrypted connection, which may break:
executions go on meanwhile, and results are kept until the dispatcher has stored them.
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
    HeartbeatReply,
    Leave,
    RemoteResult,
    ResultAcknowledged,
    RuntimeHeartbeat,
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
    """The dispatcher's address and public key, our key, and the backend to serve; `workers` circuits at a time."""

    connect: str
    backend: str
    key: Path
    dispatcher_key: Path
    workers: int = 1


def join(settings: JoinSettings) -> None:
    """Execute circuits until SIGTERM or SIGINT. ConfigError for unusable keys.

    If the dispatcher is unreachable or refuses, it tries again.
    """
    import zmq

    keys, server = read_keys(settings.key), read_public(settings.dispatcher_key)
    configure("quantum-runtime")
    with zmq.Context() as context:
        link = context.socket(zmq.DEALER)
        zap.authenticate_to(link, keys, server)
        agent = JoinService(context, link, settings)
        with signals_stop(agent.stop, agent.wake_fd):
            agent.run()


class JoinService:
    """The connection to the dispatcher and the poll loop; one thread."""

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
        self._enlisted = self._enlist_sent = self._key_refused = False
        self._attempt = 0
        self._last_received = self._next_send = 0.0
        self._last_refusal = ""
        self._reported: Health | None = None
        self._stopping = False
        self._wake_pipe, self.wake_fd = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._link = link
        link.linger = _LINGER_MS
        link.immediate = 1  # queue nothing without a connection
        link.maxmsgsize = FRAME_LIMIT
        link.reconnect_ivl, link.reconnect_ivl_max = _RECONNECT_MS
        link.handshake_ivl = zap.HANDSHAKE_MS
        link.heartbeat_ivl, link.heartbeat_timeout = _HEARTBEAT_MS  # TCP alone may take a quarter of an hour
        self._link_events = link.get_monitor_socket(
            zmq.EVENT_DISCONNECTED
            | zmq.EVENT_HANDSHAKE_SUCCEEDED
            | zmq.EVENT_HANDSHAKE_FAILED_AUTH
            | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
        )
        self._poller = zmq.Poller()
        for source in (link, self._link_events, self._wake_pipe):
            self._poller.register(source, zmq.POLLIN)
        self._work = AssignedWork(context, self._poller, self._instance, self._send_result)

    def stop(self) -> None:
        """Let `run` return; may be called from a signal handler."""
        self._stopping = True

    def run(self) -> None:
        """Serve until `stop`. When it returns, every process has ended."""
        import zmq

        try:
            self._link.connect(self._settings.connect)
        except zmq.ZMQError as error:
            raise InvalidInputError(f"Cannot connect to {self._settings.connect}: {error}.") from error
        log.info("connecting to the dispatcher", at=self._settings.connect)
        try:
            while not self._stopping:
                self._run_once()
            self._send(Leave(instance=self._instance))
        finally:
            self._work.close()
            self._link.disable_monitor()
            self._link_events.close(linger=0)
            self._link.close()

    def _run_once(self) -> None:

        now = time.monotonic()
        self._work.fill(now)
        self._send_due(now)
        ready: dict[Any, int] = dict(self._poller.poll(self._poll_timeout_ms(now)))
        if ready.pop(self._link_events, None):
            self._receive_link_events()
        if ready.pop(self._wake_pipe, None):
            os.read(self._wake_pipe, 4096)
        if ready.pop(self._link, None):
            self._receive()
        self._work.process_events()

    def _poll_timeout_ms(self, now: float) -> int:
        first = min(self._next_send, self._work.next_event())
        return max(0, int((first - now) * 1000) + 1)

    # --- sending -------------------------------------------------------------------------------------

    def _send_due(self, now: float) -> None:
        welcome = self._welcome
        if welcome is not None and now - self._last_received > welcome.beat_s * MISSED_HEARTBEATS:
            self._enlisted = False
        health = self._work.health()
        if now < self._next_send and (not self._enlisted or health == self._reported):
            return
        if welcome is None or not self._enlisted:
            self._next_send = now + _ENLIST_S
            if self._key_refused:  # libzmq does not retry after that
                self._key_refused = False
                self._link.disconnect(self._settings.connect)
                self._link.connect(self._settings.connect)
            if not self._enlist_sent:
                self._attempt += 1
                self._enlist_sent = self._send(self._enlistment())
            return
        self._next_send = now + welcome.beat_s
        self._reported = health
        self._send(
            RuntimeHeartbeat(instance=self._instance, health=health, backend_type=self._work.backend_type)
        )

    def _enlistment(self) -> Enlist:
        return Enlist(
            protocol=PROTOCOL,
            backend=self._settings.backend,
            instance=self._instance,
            workers=self._settings.workers,
            claims=self._work.claims(),
            attempt=self._attempt,
        )

    def _send(self, message: Message) -> bool:
        """Send a message; False without a connection. Everything is sent again after the next enlistment."""
        import zmq

        try:
            self._link.send_multipart(encode_frames(message), zmq.NOBLOCK)
        except zmq.Again:
            self._enlisted = False
            return False
        return True

    # --- receiving -----------------------------------------------------------------------------------

    def _receive_link_events(self) -> None:
        import zmq
        from zmq.utils.monitor import parse_monitor_message

        while True:
            try:
                event = parse_monitor_message(self._link_events.recv_multipart(zmq.NOBLOCK))
            except zmq.Again:
                return
            self._enlisted = self._enlist_sent = False  # messages in transit may be lost
            if event["event"] == int(zmq.EVENT_HANDSHAKE_SUCCEEDED):
                self._next_send = 0.0
            elif event["event"] == int(zmq.EVENT_HANDSHAKE_FAILED_AUTH):
                self._key_refused = True
                self._log_refusal("the dispatcher does not accept this runtime's key")
            elif event["event"] == int(zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL):
                self._log_refusal("the dispatcher's key is not the configured one")

    def _receive(self) -> None:
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
            self._last_received = time.monotonic()
            self._handle(message)

    def _handle(self, message: Message) -> None:
        """Handle a message of the dispatcher.

        An order sent before the dispatcher has read our last claims is ignored: it finds the order missing in
        the claims, and sends it again. So is the reply to an earlier enlistment: such an order may follow it.
        """
        match message:
            case Enlisted() if message.attempt == self._attempt:
                self._begin(message)
            case Declined():
                self._enlist_sent = False
                self._log_refusal(message.reason)
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
        self._enlisted, self._enlist_sent, self._last_refusal, self._reported = True, False, "", None
        self._welcome = welcome
        self._work.begin(welcome)
        self._work.resend_results()

    def _send_result(self, answer: RemoteResult) -> None:
        if self._enlisted:
            self._send(answer)

    def _log_refusal(self, reason: str) -> None:
        self._enlisted = False
        if reason != self._last_refusal:
            self._last_refusal = reason
            log.warning("refused by the dispatcher; retrying", why=reason)
