"""Sessions' clients, who come from centers by TCP and TLS: who is let in, and what one of them may cost.

C2 is known by its certificate; who comes has a few seconds to show the secret of a session that is held on C2
at this moment, and is let in for that session only. A session has one client: the last to come.
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
"""Of one session's client."""

_WORD_S = 1.0  # between two words in the log about those who were not let in

_NOT_OPEN = Refused(kind="session", reason="No session is open for this client.")
_OTHER_VERSION = Refused(
    kind="invalid_input", reason="C2 runs another version of qslurm with another session protocol."
)


class SessionServer:
    """Poll `ear`, and `hear` when something is there or `waiting` is true; `look` from time to time.

    `enter` gives the session that a secret opens, `is_open` says whether a task still has one. Times are monotonic
    seconds.
    """

    def __init__(
        self,
        config: SessionsConfig,
        *,
        enter: Callable[[bytes], Attached | None],
        is_open: Callable[[int], bool],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._enter = enter
        self._is_open = is_open
        self._clock = clock
        self._clients: dict[int, Connection] = {}  # by task
        self._tasks: dict[Connection, int] = {}
        self._next_beat = self._quiet_until = 0.0
        listening = listen_at(config.listen)
        try:
            context = server_context(Path(config.key))
        except BaseException:
            listening.close()
            raise
        self._server = Server(LIMITS, tls=context, on_close=self._has_left, clock=clock)
        self._server.listen(listening)
        host, port = listening.getsockname()[:2]
        self.place = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        self.ear = self._server.fileno()

    @property
    def waiting(self) -> bool:
        """Whether there is something to take that `ear` does not tell of."""
        return self._server.has_buffered

    def hear(self, most: int) -> Iterator[tuple[Address, int, bytes]]:
        """What clients say: where an answer goes, whose client it is, and a message. One of each at a time."""
        for address, body in self._server.receive(most):
            task = self._tasks.get(address.connection)
            if task is None:
                self._let_in(address.connection, body)
            else:
                yield address, task, body

    def owns(self, address: Address) -> bool:
        """Whether an address is that of a client who is there."""
        return address.connection in self._tasks

    def address_of(self, task: int) -> Address | None:
        """Where to tell the client of a session what it has not asked for; None if it is not there."""
        connection = self._clients.get(task)
        return None if connection is None else Address(connection)

    def send(self, address: Address, message: Message, *, final: bool) -> None:
        """Send to a client, if it is still there; what is not `final` leaves its question open."""
        self._server.send(address, encode(message), final=final)

    def look(self, now: float) -> float:
        """End who takes too long, let others know that we are there; the answer is when to look again."""
        if now >= self._next_beat:
            self._next_beat = now + HEARTBEAT_S
            self._beat()
        return min(self._next_beat if self._clients else float("inf"), self._server.check(now))

    def close(self) -> None:
        """Take nothing more. Clients will look for the next dispatcher."""
        self._server.close()

    def _let_in(self, connection: Connection, body: bytes) -> None:
        """Somebody has said hello."""
        try:
            hello = hello_decoder.decode(body)
        except msgspec.DecodeError:
            self._server.end(connection, "invalid hello message")
            return
        if hello.protocol != PROTOCOL:
            self._send_away(connection, _OTHER_VERSION)
            return
        attached = self._enter(hello.secret)
        if attached is None:
            self._note_refused(connection.host)
            self._send_away(connection, _NOT_OPEN)
            return
        before = self._clients.get(attached.task)
        if before is not None:
            self._server.end(before)
        self._clients[attached.task] = connection
        self._tasks[connection] = attached.task
        self._server.identify(connection, attached.task)
        log.info("session client connected", task=attached.task, address=connection.host)
        self._server.send(Address(connection), encode(attached))

    def _has_left(self, connection: Connection) -> None:
        task = self._tasks.pop(connection, None)
        if task is not None:
            del self._clients[task]
            log.info("session client disconnected", task=task, address=connection.host)

    def _note_refused(self, host: str) -> None:
        now = self._clock()
        if now >= self._quiet_until:
            self._quiet_until = now + _WORD_S
            log.info("session client refused", address=host)

    def _send_away(self, connection: Connection, why: Refused) -> None:
        self._server.send(Address(connection), encode(why))
        self._server.end(connection)

    def _beat(self) -> None:
        for task, connection in list(self._clients.items()):
            if not self._is_open(task):
                self._server.end(connection)
            elif not connection.unsent:
                self._server.send(Address(connection), b"")


def server_context(key: Path) -> ssl.SSLContext:
    """How this side is known: by a key and its certificate, which are made if there are none."""
    ensure_certificate(key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.num_tickets = 0
    context.load_cert_chain(certificate_path(key), key)
    return context


def listen_at(place: str) -> socket.socket:
    """A socket that listens at ADDRESS:PORT. QslurmError if that can't be."""
    host, port = host_and_port(place)
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=128)
    except OSError as error:
        raise QslurmError(
            f"[sessions] listen: cannot listen on {place}: {error.strerror}.",
            hint="Use ADDRESS:PORT, with an address of this host and a free port.",
        ) from error
