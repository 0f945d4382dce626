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
"""At the Unix socket, for each user of this host."""

_BACKLOG = 512
_BATCH = 64  # messages taken in before anything else gets its turn


@dataclass(frozen=True)
class SignedRequest:
    """A request with its credential, both still to be checked, and the address of its reply."""

    address: Address
    body: bytes
    credential: bytes


class Listeners:
    """Each round, with what the poller says of `ears`, `socket_requests` and `session_messages`.

    With `only_own_job`, who asks about a job must be a process of it. Users who are `exempt` are bounded at each
    connection only.
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
        self.ears = [self._server.fileno()] + ([sessions.ear] if sessions else [])

    def listen(self, path: str) -> None:
        """Take requests at a Unix socket with this path."""
        self._path = Path(path)
        self._server.listen(
            listen_unix(
                self._path, service="dispatcher", setting="socket under [dispatcher]", backlog=_BACKLOG
            )
        )

    def add_connection(self, connection: socket.socket) -> None:
        """Take requests over this connection, too."""
        self._server.add(connection, may_be_silent=True)  # it speaks when its file asks for a first circuit

    def send_lane(self, connection: Connection, descriptors: tuple[int, ...]) -> bool:
        """Send a job step its lane, over its connection to the socket; False if it is not taken at once."""
        return self._server.send_descriptors(connection, descriptors)

    @property
    def sessions_address(self) -> str:
        """Where sessions' clients come to, or nothing."""
        return self._sessions.place if self._sessions else ""

    @property
    def waiting(self) -> bool:
        """Whether there is something to take that no descriptor tells of."""
        sessions = self._sessions
        return self._server.has_buffered or (sessions is not None and sessions.waiting)

    def look(self, now: float) -> float:
        """End who takes too long; the answer is when to look again."""
        again = self._server.check(now)
        return again if self._sessions is None else min(again, self._sessions.look(now))

    def socket_requests(self, ready: dict[Any, int]) -> Iterator[tuple[SignedRequest, Message]]:
        """What is asked at the socket; who asks for what there is not has been answered already."""
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
        """What sessions' clients say: where an answer goes, their task, and a message."""
        if self._sessions is None:
            return
        if ready.pop(self._sessions.ear, None) or self._sessions.waiting:
            yield from self._sessions.hear(_BATCH)

    def send(self, address: Address, message: Message) -> None:
        """Send to whoever it is, if they are still there."""
        if self._sessions is not None and self._sessions.owns(address):
            self._sessions.send(address, message, final=not isinstance(message, Pending) or message.again)
        else:
            self._server.send(address, encode(message))

    def is_session_client(self, address: Address) -> bool:
        """Whether an address is that of a session's client, who is told without asking again."""
        return self._sessions is not None and self._sessions.owns(address)

    def address_of(self, task: int) -> Address | None:
        """Where to tell the client of a session what it has not asked for; None if it is not there."""
        return self._sessions.address_of(task) if self._sessions else None

    def owner(self, connection: Connection) -> int | None:
        """The uid at the other end of a connection to the socket."""
        return None if connection.peer is None else connection.peer.uid

    def is_of_job(self, connection: Connection, job_id: int) -> bool:
        """Whether a connection to the socket may ask about a job: it was made by a process of that job."""
        return not self._only_own_job or (
            connection.peer is not None and not connection.is_closed and connection.peer.job() == job_id
        )

    def close(self) -> None:
        """Take nothing more."""
        if self._sessions is not None:
            self._sessions.close()
        self._server.close()
        if self._path is not None:
            self._path.unlink(missing_ok=True)
