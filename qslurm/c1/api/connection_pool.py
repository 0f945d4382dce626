"""A pool of connections to C2 for the threads of a program; each is used by one caller at a time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from qslurm.errors import InvalidInputError

if TYPE_CHECKING:
    from qslurm.c1.connection.center_connection import CenterConnection

MOST_IDLE = 4
"""Maximum idle connections; more are not faster, since slurmctld takes submissions one by one."""


class ConnectionPool:
    """As many connections as concurrent callers; thread-safe."""

    def __init__(self, connect: Callable[[], CenterConnection]) -> None:
        self._connect = connect
        self._lock = threading.Lock()
        self._idle: list[CenterConnection] = []
        self.is_closed = False

    @contextmanager
    def one(self) -> Iterator[CenterConnection]:
        """Borrow a connection; InvalidInputError after `close`."""
        with self._lock:
            self.refuse_if_closed()
            center = self._idle.pop() if self._idle else None
        if center is None:
            center = self._connect()
        try:
            yield center
        finally:
            with self._lock:
                if keep := not self.is_closed and len(self._idle) < MOST_IDLE:
                    self._idle.append(center)
            if not keep:
                center.close()

    def refuse_if_closed(self) -> None:
        """InvalidInputError after `close`."""
        if self.is_closed:
            raise InvalidInputError("This Center is closed.", hint="Create a new one.")

    def close(self) -> None:
        """Close all connections; those in use when they are returned."""
        with self._lock:
            self.is_closed = True
            idle, self._idle = self._idle, []
        for center in idle:
            center.close()
