"""Where job steps wait to be given a lane: a Unix socket, over which descriptors can be passed.

Who has not shown yet whose step it is, is bounded for each user, as sessions' clients are for each address
(wire/server_limits.py).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from qslurm.runtimes.lanes.client import DOOR_LIMIT, REQUEST, Hello
from qslurm.wire.connection import Address, Connection
from qslurm.wire.peer import Peer
from qslurm.wire.server import Server
from qslurm.wire.server_limits import ServerLimits
from qslurm.wire.unix_socket import listen_unix

if TYPE_CHECKING:
    import socket

LIMITS = ServerLimits(body=DOOR_LIMIT)
"""Of one task's client."""

_BACKLOG = 512
_BATCH = 64  # messages in one round
_LANE = b"L"

_hellos: msgspec.msgpack.Decoder[Hello] = msgspec.msgpack.Decoder(Hello)

Admits = Callable[[int, bytes, Peer], bool]
"""Whether a task (its id) has this secret, and is this process's."""


class LaneListener:
    """Knows which connection belongs to which task. Poll `ear`; `hear` when something is there or `waiting` is true."""

    def __init__(self, admits: Admits, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._admits = admits
        self._path: Path | None = None
        self._clients: dict[int, Connection] = {}  # by task
        self._tasks: dict[Connection, int] = {}
        self._server = Server(LIMITS, expects_hello=True, on_close=self._has_left, clock=clock)
        self.ear = self._server.fileno()

    def listen(self, path: str) -> None:
        """Listen at a path that everybody on the host may connect to: who says hello must know a session's secret."""
        self._path = Path(path)
        self._server.listen(
            listen_unix(
                self._path, service="dispatcher", setting="socket under [dispatcher]", backlog=_BACKLOG
            )
        )

    def let_in(self, connection: socket.socket) -> None:
        """Somebody is connected already, as the user of `qslurm run`."""
        self._server.add(connection, may_be_silent=True)

    @property
    def waiting(self) -> bool:
        """Whether there is something to take that `ear` does not tell of."""
        return self._server.has_buffered

    def hear(self) -> Iterator[tuple[int, bytes]]:
        """Take in what has come, and who: what tasks' clients say once they are known, and whose they are."""
        for address, body in self._server.receive(_BATCH):
            task = self._tasks.get(address.connection)
            if task is not None:
                yield task, body
            elif not self._is_admitted(address.connection, body):
                self._server.end(address.connection)

    def look(self, now: float) -> float:
        """End who does not say whose step it is; the answer is when to look again."""
        return self._server.check(now)

    def waits(self, task: int) -> bool:
        """Whether somebody of this task is there."""
        return task in self._clients

    def hand_out(self, task: int, descriptors: tuple[int, ...]) -> bool:
        """Give a task's client these descriptors; False if it takes nothing."""
        return self._server.send_descriptors(self._clients[task], _LANE, descriptors)

    def tell(self, task: int, data: bytes) -> None:
        """Answer a task's client, if it is still there."""
        if task in self._clients:
            self._server.send(Address(self._clients[task], REQUEST), data)

    def send_away(self, task: int) -> None:
        """Let a task's client go, for what it has said."""
        if task in self._clients:
            self._server.end(self._clients[task])

    def close(self) -> None:
        """Close everything, and take the path away."""
        self._server.close()
        if self._path is not None:
            self._path.unlink(missing_ok=True)

    def _is_admitted(self, connection: Connection, body: bytes) -> bool:
        try:
            hello = _hellos.decode(body)
        except msgspec.DecodeError:
            return False
        peer = connection.peer
        if peer is None or hello.task in self._clients or not self._admits(hello.task, hello.secret, peer):
            return False
        self._clients[hello.task] = connection
        self._tasks[connection] = hello.task
        return self._server.identify(connection, hello.task)

    def _has_left(self, connection: Connection) -> None:
        task = self._tasks.pop(connection, None)
        if task is not None:
            del self._clients[task]
