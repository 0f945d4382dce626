"""All ways by which jobs, hooks and people come to the dispatcher, as one: its socket, sessions' door, lanes' door."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from qslurm.c2.dispatcher.listeners.lane_listener import LaneListener
from qslurm.c2.dispatcher.listeners.session_server import SessionServer
from qslurm.c2.dispatcher.listeners.unix_listener import UnixListener
from qslurm.c2.dispatcher.replies import To
from qslurm.errors import InvalidInputError
from qslurm.protocol.dispatcher_frames import Address, RawRequest, decode_request, encode, parse_request
from qslurm.protocol.messages import Message, Pending, Refused
from qslurm.runtimes.lanes.client import door_of
from qslurm.system.event_log import EventLog

if TYPE_CHECKING:
    import socket

log = EventLog(__name__)

_BATCH = 64  # messages taken in before anything else gets its turn


class Listeners:
    """Each round, with what the poller says of `ears`, the three that begin with `from_`.

    With `only_own_job`, who asks about a job must be a process of it.
    """

    def __init__(
        self, front: UnixListener, callers: SessionServer | None, door: LaneListener, *, only_own_job: bool
    ) -> None:
        self._front = front
        self._callers = callers
        self._door = door
        self._only_own_job = only_own_job
        self.ears = [front.ear, door.ear] + ([callers.ear] if callers else [])

    def listen(self, path: str) -> None:
        """Take questions at a Unix socket with this path; beside it, lanes are handed out."""
        self._front.listen(path)
        self._door.listen(door_of(path))

    def let_in(self, connection: socket.socket, door: socket.socket) -> None:
        """Take questions over this connection, too, and hand out lanes at that door."""
        self._front.welcome(connection, hurried=False)  # it speaks when its file asks for a first circuit
        self._door.let_in(door)

    @property
    def sessions_address(self) -> str:
        """Where sessions' clients come to, or nothing."""
        return self._callers.place if self._callers else ""

    @property
    def waiting(self) -> bool:
        """Whether there is something to take that no descriptor tells of."""
        return self._front.waiting or (self._callers is not None and self._callers.waiting)

    def look(self, now: float) -> float:
        """End who takes too long; the answer is when to look again."""
        again = min(self._front.look(now), self._door.look(now))
        return again if self._callers is None else min(again, self._callers.look(now))

    def lane_messages(self, ready: dict[Any, int]) -> Iterator[tuple[int, bytes]]:
        """What those say who are at the door: their task, and a message."""
        if ready.pop(self._door.ear, None):
            yield from self._door.hear()

    def socket_requests(self, ready: dict[Any, int]) -> Iterator[tuple[RawRequest, Message]]:
        """What is asked at the socket; who asks for what there is not has been answered already."""
        if not ready.pop(self._front.ear, None) and not self._front.waiting:
            return
        for frames in self._front.hear(_BATCH):
            request = parse_request(frames)
            if request is None:
                log.debug("something came that is no message")
                continue
            try:
                message = decode_request(request.body)
            except InvalidInputError as error:
                self.send(request.address, Refused(kind=error.kind, reason=error.message))
                continue
            yield request, message

    def session_messages(self, ready: dict[Any, int]) -> Iterator[tuple[Address, int, bytes]]:
        """What sessions' clients say: where an answer goes, their task, and a message."""
        if self._callers is None:
            return
        if ready.pop(self._callers.ear, None) or self._callers.waiting:
            yield from self._callers.hear(_BATCH)

    def send(self, address: To, message: Message) -> None:
        """Send to whoever it is, if they are still there."""
        if isinstance(address, int):
            self._door.tell(address, encode(message))
        elif self._callers is not None and self._callers.owns(address):
            self._callers.send(address, message, final=not isinstance(message, Pending))
        else:
            self._front.send([*address, b"", encode(message)])

    def is_session_client(self, address: To) -> bool:
        """Whether an address is that of a session's client, who is told without asking again."""
        return self._callers is not None and not isinstance(address, int) and self._callers.owns(address)

    def address_of(self, task: int) -> Address | None:
        """Where to tell the client of a session what it has not asked for; None if it is not there."""
        return self._callers.address_of(task) if self._callers else None

    def owner(self, name: bytes) -> int | None:
        """The uid at the other end of a connection to the socket; None if it is gone."""
        return self._front.owner(name)

    def is_of_job(self, name: bytes, job_id: int) -> bool:
        """Whether a connection to the socket may ask about a job: it was made by a process of that job."""
        return not self._only_own_job or self._front.job(name) == job_id

    def close(self) -> None:
        """Take nothing more."""
        self._door.close()
        if self._callers is not None:
            self._callers.close()
        self._front.close()
