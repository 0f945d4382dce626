"""The server for clients of sessions, which connect from centers by TLS, and the limits for each.

C2 is authenticated by its certificate, a client by the secret of a session that is open at this moment. It has a few
seconds to send it, and may use that session only. A session has one client: the newest.
"""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from qslurm.c2.config.dispatcher_section import SessionsConfig
from qslurm.errors import QslurmError
from qslurm.protocol.dispatcher_frames import encode
from qslurm.protocol.messages import OPEN_IN_SESSION, Attached, Message, Refused
from qslurm.protocol.session_frames import (
    HEARTBEAT_S,
    PROTOCOL,
    REPLY_LIMIT,
    REQUEST_LIMIT,
    hello_decoder,
    host_and_port,
)
from qslurm.protocol.tls_certificate import certificate_path, ensure_certificate
from qslurm.system.event_log import EventLog
from qslurm.wire.connection import Address, Connection
from qslurm.wire.server import Server
from qslurm.wire.server_limits import ServerLimits

log = EventLog(__name__)

LIMITS = ServerLimits(
    body=REQUEST_LIMIT,
    unread=REQUEST_LIMIT + 256 * 1024,
    unsent=REPLY_LIMIT,
    unanswered=OPEN_IN_SESSION + 2,
    unfinished_s=float("inf"),  # the line from a center may be slow, or break and be made again
)
"""For the client of one session."""

_REFUSAL_LOG_S = 1.0  # between two lines of the log about refused clients

_NOT_OPEN = Refused(kind="session", reason="No session is open for this client.")
_OTHER_VERSION = Refused(
    kind="invalid_input", reason="C2 runs another version of qslurm with another session protocol."
)


class SessionServer:
    """Poll `fileno`; call `receive` when it is readable or `has_buffered` is true, and `check` when that asks for it.

    `authenticate` returns the session with a secret, `is_open` whether a task still has a session. Times are monotonic
    seconds.
    """

    def __init__(
        self,
        config: SessionsConfig,
        *,
        authenticate: Callable[[bytes], Attached | None],
        is_open: Callable[[int], bool],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._authenticate = authenticate
        self._is_open = is_open
        self._clock = clock
        self._clients: dict[int, Connection] = {}  # by task
        self._tasks: dict[Connection, int] = {}
        self._next_beat = self._no_log_until = 0.0
        listening = listen_on(config.listen)
        try:
            context = server_context(Path(config.key))
        except BaseException:
            listening.close()
            raise
        self._server = Server(LIMITS, tls=context, on_close=self._on_close, clock=clock)
        self._server.listen(listening)
        host, port = listening.getsockname()[:2]
        self.address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        self.fileno = self._server.fileno()

    @property
    def has_buffered(self) -> bool:
        """Whether there are received messages for which `fileno` is not readable."""
        return self._server.has_buffered

    def receive(self, most: int) -> Iterator[tuple[Address, int, bytes]]:
        """Messages of clients: address for the reply, task, body. One of each connection at a time."""
        for address, body in self._server.receive(most):
            task = self._tasks.get(address.connection)
            if task is None:
                self._begin(address.connection, body)
            else:
                yield address, task, body

    def is_client(self, address: Address) -> bool:
        """Whether an address is that of a connected client."""
        return address.connection in self._tasks

    def address_of(self, task: int) -> Address | None:
        """The address for messages to a session's client that are no replies; None if it is not connected."""
        connection = self._clients.get(task)
        return None if connection is None else Address(connection)

    def send(self, address: Address, message: Message, *, final: bool) -> None:
        """Send to a client, if it is still connected; its request stays open unless this is `final`."""
        self._server.send(address, encode(message), final=final)

    def check(self, now: float) -> float:
        """Close connections whose time is over, and send heartbeats. Returns when to call this next."""
        if now >= self._next_beat:
            self._next_beat = now + HEARTBEAT_S
            self._beat()
        return min(self._next_beat if self._clients else float("inf"), self._server.check(now))

    def close(self) -> None:
        """Close all connections. Clients reconnect to the next dispatcher."""
        self._server.close()

    def _begin(self, connection: Connection, body: bytes) -> None:
        try:
            hello = hello_decoder.decode(body)
        except msgspec.DecodeError:
            self._server.end(connection, "invalid hello message")
            return
        if hello.protocol != PROTOCOL:
            self._reject(connection, _OTHER_VERSION)
            return
        attached = self._authenticate(hello.secret)
        if attached is None:
            self._log_refusal(connection.host)
            self._reject(connection, _NOT_OPEN)
            return
        previous = self._clients.get(attached.task)
        if previous is not None:
            self._server.end(previous)
        self._clients[attached.task] = connection
        self._tasks[connection] = attached.task
        self._server.identify(connection, attached.task)
        log.info("session client connected", task=attached.task, address=connection.host)
        self._server.send(Address(connection), encode(attached))

    def _on_close(self, connection: Connection) -> None:
        task = self._tasks.pop(connection, None)
        if task is not None:
            del self._clients[task]
            log.info("session client disconnected", task=task, address=connection.host)

    def _log_refusal(self, host: str) -> None:
        now = self._clock()
        if now >= self._no_log_until:
            self._no_log_until = now + _REFUSAL_LOG_S
            log.info("session client refused", address=host)

    def _reject(self, connection: Connection, refusal: Refused) -> None:
        self._server.send(Address(connection), encode(refusal))
        self._server.end(connection)

    def _beat(self) -> None:
        for task, connection in list(self._clients.items()):
            if not self._is_open(task):
                self._server.end(connection)
            elif not connection.unsent:
                self._server.send(Address(connection), b"")


def server_context(key: Path) -> ssl.SSLContext:
    """The TLS context with this key and its certificate, which are made if they do not exist."""
    ensure_certificate(key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.num_tickets = 0
    context.load_cert_chain(certificate_path(key), key)
    return context


def listen_on(address: str) -> socket.socket:
    """A socket that listens on ADDRESS:PORT. QslurmError if it cannot."""
    host, port = host_and_port(address)
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=128)
    except OSError as error:
        raise QslurmError(
            f"[sessions] listen: cannot listen on {address}: {error.strerror}.",
            hint="Use ADDRESS:PORT, with an address of this host and a free port.",
        ) from error
