"""Where requests to the dispatcher arrive: at its Unix socket, and over TLS from the clients of sessions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qslurm.c2.dispatcher.listeners.session_server import SessionServer
from qslurm.errors import InvalidInputError
from qslurm.protocol.dispatcher_frames import BODY_LIMIT, decode_request, encode
from qslurm.protocol.messages import Message, Pending, Refused
from qslurm.wire.connection import Address, Connection
from qslurm.wire.frames import SIGNED_SLACK, FrameError, open_signed
from qslurm.wire.server import Server
from qslurm.wire.server_limits import ServerLimits
from qslurm.wire.unix_socket import listen_unix

if TYPE_CHECKING:
    import socket

LIMITS = ServerLimits(body=BODY_LIMIT + SIGNED_SLACK)
"""For each user of this host, at the Unix socket."""

_BACKLOG = 512
_BATCH = 64  # requests in one round of the main loop


@dataclass(frozen=True)
class SignedRequest:
    """A request with its credential, both still to be checked, and the address of its reply."""

    address: Address
    body: bytes
    credential: bytes


class Listeners:
    """Poll `filenos`; each round, call `socket_requests` and `session_messages` with the ready descriptors.

    With `only_own_job`, requests about a job must come from a process of it. Limits per user do not apply to `exempt`
    uids.
    """

    def __init__(
        self,
        exempt: frozenset[int],
        sessions: SessionServer | None,
        *,
        only_own_job: bool,
    ) -> None:
        self._server = Server(LIMITS, exempt=exempt)
        self._path: Path | None = None
        self._sessions = sessions
        self._only_own_job = only_own_job
        self.filenos = [self._server.fileno()] + ([sessions.fileno] if sessions else [])

    def listen(self, path: str) -> None:
        """Accept requests at a Unix socket with this path."""
        self._path = Path(path)
        self._server.listen(
            listen_unix(
                self._path, service="dispatcher", setting="socket under [dispatcher]", backlog=_BACKLOG
            )
        )

    def add_connection(self, connection: socket.socket) -> None:
        """Accept requests over this connection as well."""
        self._server.add(
            connection, may_be_silent=True
        )  # silent until the job's file executes its first circuit

    def send_lane(self, connection: Connection, descriptors: tuple[int, ...]) -> bool:
        """Send a job step its lane, over its connection to the socket; False if it is not taken at once."""
        return self._server.send_descriptors(connection, descriptors)

    @property
    def sessions_address(self) -> str:
        """Where clients of sessions connect, or ""."""
        return self._sessions.address if self._sessions else ""

    @property
    def has_buffered(self) -> bool:
        """Whether there are received requests for which no descriptor is ready."""
        sessions = self._sessions
        return self._server.has_buffered or (sessions is not None and sessions.has_buffered)

    def check(self, now: float) -> float:
        """Close connections whose time is over. Returns when to call this next."""
        next_check = self._server.check(now)
        return next_check if self._sessions is None else min(next_check, self._sessions.check(now))

    def socket_requests(self, ready: dict[Any, int]) -> Iterator[tuple[SignedRequest, Message]]:
        """Requests at the Unix socket; malformed ones are answered here."""
        if not ready.pop(self._server.fileno(), None) and not self._server.has_buffered:
            return
        for address, data in self._server.receive(_BATCH):
            try:
                signed = open_signed(data)
                message = decode_request(signed.body)
            except FrameError as error:
                self._server.end(address.connection, str(error))
            except InvalidInputError as error:
                self.send(address, Refused(kind=error.kind, reason=error.message))
            else:
                yield SignedRequest(address, signed.body, signed.credential), message

    def session_messages(self, ready: dict[Any, int]) -> Iterator[tuple[Address, int, bytes]]:
        """Messages of clients of sessions: address for the reply, task, body."""
        if self._sessions is None:
            return
        if ready.pop(self._sessions.fileno, None) or self._sessions.has_buffered:
            yield from self._sessions.receive(_BATCH)

    def send(self, address: Address, message: Message) -> None:
        """Send a reply, if the connection is still open."""
        if self._sessions is not None and self._sessions.is_client(address):
            self._sessions.send(address, message, final=not isinstance(message, Pending) or message.again)
        else:
            self._server.send(address, encode(message))

    def is_session_client(self, address: Address) -> bool:
        """Whether an address is that of a session's client."""
        return self._sessions is not None and self._sessions.is_client(address)

    def address_of(self, task: int) -> Address | None:
        """The address for messages to a session's client that are no replies; None if it is not connected."""
        return self._sessions.address_of(task) if self._sessions else None

    def owner(self, connection: Connection) -> int | None:
        """The uid of the peer of a connection to the Unix socket."""
        return None if connection.peer is None else connection.peer.uid

    def is_of_job(self, connection: Connection, job_id: int) -> bool:
        """Whether a connection may send requests about a job: a process of that job made it."""
        return not self._only_own_job or (
            connection.peer is not None and not connection.is_closed and connection.peer.job() == job_id
        )

    def close(self) -> None:
        """Close all connections and remove the socket."""
        if self._sessions is not None:
            self._sessions.close()
        self._server.close()
        if self._path is not None:
            self._path.unlink(missing_ok=True)
