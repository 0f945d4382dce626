"""The dispatcher's door: where job steps wait to be given a lane. Descriptors can only be passed over a Unix socket."""

from __future__ import annotations

import select
import socket
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from qslurm.eventlog import EventLog
from qslurm.runtimes.lanes.client import DOOR_LIMIT, HELLO_LIMIT, Hello

log = EventLog(__name__)

GUESTS = 512
"""Connections at a time; who comes then does without a lane."""

_hellos: msgspec.msgpack.Decoder[Hello] = msgspec.msgpack.Decoder(Hello)

Admits = Callable[[int, bytes, int], bool]
"""Whether a task (its id) has this secret, and is this uid's."""


class Door:
    """Knows which connection belongs to which task. Poll `ear`, and `hear` when something is there."""

    def __init__(self, admits: Admits) -> None:
        self._admits = admits
        self._listener: socket.socket | None = None
        self._path: Path | None = None
        self._guests: dict[int, socket.socket] = {}
        self._tasks: dict[int, int] = {}  # descriptor of a connection: task
        self._connections: dict[int, int] = {}  # task: descriptor
        self._epoll = select.epoll()
        self.ear = self._epoll.fileno()

    def listen(self, path: str) -> None:
        """Listen at a path that everybody on the host may connect to: who says hello must know a session's secret."""
        Path(path).unlink(missing_ok=True)
        self._path = Path(path)
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
        self._listener.bind(path)
        self._path.chmod(0o666)
        self._listener.listen(64)
        self._epoll.register(self._listener, select.EPOLLIN)

    def let_in(self, connection: socket.socket) -> None:
        """Somebody is connected already, as the user of `qslurm run`."""
        connection.setblocking(False)
        self._guests[connection.fileno()] = connection
        self._epoll.register(connection, select.EPOLLIN)

    def hear(self) -> Iterator[tuple[int, bytes]]:
        """What tasks' clients say once they are known, each with its task; who comes and who leaves is noted."""
        for descriptor, _ in self._epoll.poll(0):
            if self._listener is not None and descriptor == self._listener.fileno():
                self._accept(self._listener)
            elif descriptor in self._guests and (said := self._heard(descriptor)) is not None:
                yield said

    def _heard(self, descriptor: int) -> tuple[int, bytes] | None:
        guest = self._guests[descriptor]
        try:
            data = guest.recv(DOOR_LIMIT)
        except BlockingIOError:
            return None
        except OSError:
            data = b""
        task = self._tasks.get(descriptor)
        if data and task is not None:
            return task, data
        if not data or len(data) > HELLO_LIMIT or not self._is_welcome(guest, data):
            self._send_away(descriptor)
        return None

    def waits(self, task: int) -> bool:
        """Whether somebody of this task is at the door."""
        return task in self._connections

    def hand_out(self, task: int, descriptors: tuple[int, ...]) -> bool:
        """Give a task's client these descriptors; False if it takes nothing."""
        number = self._connections[task]
        try:
            socket.send_fds(self._guests[number], [b"L"], descriptors)
        except OSError as error:
            log.debug("a step takes no lane", task=task, why=str(error))
            self._send_away(number)
            return False
        return True

    def tell(self, task: int, data: bytes) -> None:
        """Say something to a task's client, if it is still there."""
        number = self._connections.get(task)
        if number is None:
            return
        try:
            self._guests[number].send(data)
        except OSError as error:
            log.debug("a step listens no more", task=task, why=str(error))
            self._send_away(number)

    def send_away(self, task: int) -> None:
        """Let a task's client go, for what it has said."""
        if task in self._connections:
            self._send_away(self._connections[task])

    def close(self) -> None:
        """Close everything, and take the path away."""
        for guest in self._guests.values():
            guest.close()
        self._guests.clear()
        if self._listener is not None and self._path is not None:
            self._listener.close()
            self._path.unlink(missing_ok=True)
        self._epoll.close()

    def _accept(self, listener: socket.socket) -> None:
        try:
            guest, _ = listener.accept()
        except OSError as error:
            log.debug("nobody came in", why=str(error))
            return
        if len(self._guests) >= GUESTS:
            guest.close()
            return
        self.let_in(guest)

    def _is_welcome(self, guest: socket.socket, data: bytes) -> bool:
        try:
            hello = _hellos.decode(data)
        except msgspec.DecodeError:
            return False
        if hello.task in self._connections or not self._admits(hello.task, hello.secret, _uid(guest)):
            return False
        self._tasks[guest.fileno()] = hello.task
        self._connections[hello.task] = guest.fileno()
        return True

    def _send_away(self, descriptor: int) -> None:
        guest = self._guests.pop(descriptor)
        self._epoll.unregister(guest)
        guest.close()
        task = self._tasks.pop(descriptor, None)
        if task is not None:
            del self._connections[task]


def _uid(guest: socket.socket) -> int:
    """Who is at the other end, as the kernel knows it (SO_PEERCRED, unix(7))."""
    _, uid, _ = struct.unpack("3i", guest.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    return int(uid)
