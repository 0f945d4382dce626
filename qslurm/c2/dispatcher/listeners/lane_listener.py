"""The dispatcher's door: where job steps wait to be given a lane. Descriptors can only be passed over a Unix socket.

Who has not shown yet whose step it is, is bounded for each user, as sessions' clients are for each address
(strangers.py).
"""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from qslurm.runtimes.lanes.client import DOOR_LIMIT, HELLO_LIMIT, Hello
from qslurm.system.event_log import EventLog
from qslurm.wire.accept import AcceptSocket
from qslurm.wire.handshake_limits import HandshakeLimits
from qslurm.wire.peer import Peer

log = EventLog(__name__)

_hellos: msgspec.msgpack.Decoder[Hello] = msgspec.msgpack.Decoder(Hello)

Admits = Callable[[int, bytes, Peer], bool]
"""Whether a task (its id) has this secret, and is this process's."""


@dataclass(eq=False)
class _Guest:
    """A connection. `task` is whose client it is (0: a stranger's)."""

    link: socket.socket
    peer: Peer
    task: int = 0

    @property
    def host(self) -> str:
        """Whose share of the strangers it has."""
        return f"uid {self.peer.uid}"


class LaneListener:
    """Knows which connection belongs to which task. Poll `ear`, and `hear` when something is there."""

    def __init__(self, admits: Admits, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._admits = admits
        self._clock = clock
        self._listener: AcceptSocket | None = None
        self._path: Path | None = None
        self._guests: dict[int, _Guest] = {}  # by descriptor
        self._clients: dict[int, _Guest] = {}  # by task
        self._strangers: HandshakeLimits[_Guest] = HandshakeLimits(clock)
        self._epoll = select.epoll()
        self.ear = self._epoll.fileno()

    def listen(self, path: str) -> None:
        """Listen at a path that everybody on the host may connect to: who says hello must know a session's secret."""
        self._path = Path(path)
        self._path.unlink(missing_ok=True)
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
        listening.bind(path)
        self._path.chmod(0o666)
        listening.listen(512)
        self._listener = AcceptSocket(listening, self._epoll, self._clock)

    def let_in(self, connection: socket.socket) -> None:
        """Somebody is connected already, as the user of `qslurm run`."""
        self._welcome(connection)

    def hear(self) -> Iterator[tuple[int, bytes]]:
        """Take in what has come, and who: what tasks' clients say once they are known, and whose they are."""
        for descriptor, _ in self._epoll.poll(0):
            if self._listener is not None and descriptor == self._listener.descriptor:
                for connection, _ in self._listener.come():
                    stranger = self._welcome(connection)
                    while (oldest := self._strangers.in_the_way(stranger.host)) is not None:
                        self._send_away(oldest)
                    self._strangers.add(stranger)
                continue
            guest = self._guests.get(descriptor)
            said = None if guest is None else self._read(guest)
            if said is not None:
                yield said

    def look(self, now: float) -> float:
        """End who does not say whose step it is; the answer is when to look again."""
        for guest in self._strangers.overdue(now):
            self._send_away(guest)
        again = float("inf") if self._listener is None else self._listener.look(now)
        return min(again, self._strangers.next_event(now))

    def waits(self, task: int) -> bool:
        """Whether somebody of this task is at the door."""
        return task in self._clients

    def hand_out(self, task: int, descriptors: tuple[int, ...]) -> bool:
        """Give a task's client these descriptors; False if it takes nothing."""
        guest = self._clients[task]
        try:
            socket.send_fds(guest.link, [b"L"], descriptors)
        except OSError as error:
            log.debug("a step takes no lane", task=task, why=str(error))
            self._send_away(guest)
            return False
        return True

    def tell(self, task: int, data: bytes) -> None:
        """Say something to a task's client, if it is still there."""
        guest = self._clients.get(task)
        if guest is None:
            return
        try:
            guest.link.send(data)
        except OSError as error:
            log.debug("a step listens no more", task=task, why=str(error))
            self._send_away(guest)

    def send_away(self, task: int) -> None:
        """Let a task's client go, for what it has said."""
        if task in self._clients:
            self._send_away(self._clients[task])

    def close(self) -> None:
        """Close everything, and take the path away."""
        for guest in list(self._guests.values()):
            self._send_away(guest)
        self._epoll.close()
        if self._listener is not None and self._path is not None:
            self._listener.close()
            self._path.unlink(missing_ok=True)

    def _welcome(self, connection: socket.socket) -> _Guest:
        connection.setblocking(False)
        guest = self._guests[connection.fileno()] = _Guest(connection, Peer(connection))
        self._epoll.register(connection, select.EPOLLIN)
        return guest

    def _read(self, guest: _Guest) -> tuple[int, bytes] | None:
        try:
            data = guest.link.recv(DOOR_LIMIT)
        except BlockingIOError:
            return None
        except OSError:
            data = b""
        if data and guest.task:
            return guest.task, data
        if not data or len(data) > HELLO_LIMIT or not self._is_welcome(guest, data):
            self._send_away(guest)
        return None

    def _is_welcome(self, guest: _Guest, data: bytes) -> bool:
        try:
            hello = _hellos.decode(data)
        except msgspec.DecodeError:
            return False
        if hello.task in self._clients or not self._admits(hello.task, hello.secret, guest.peer):
            return False
        self._strangers.remove(guest)
        guest.task = hello.task
        self._clients[hello.task] = guest
        return True

    def _send_away(self, guest: _Guest) -> None:
        del self._guests[guest.link.fileno()]
        self._strangers.remove(guest)
        if guest.task:
            del self._clients[guest.task]
        self._epoll.unregister(guest.link)
        guest.peer.close()
        guest.link.close()
