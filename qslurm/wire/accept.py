"""Where connections come to, also when this process can't have any more for a while."""

from __future__ import annotations

import errno
import select
import socket
from collections.abc import Callable, Iterator
from typing import Any

from qslurm.system.event_log import EventLog

log = EventLog(__name__)

_AT_ONCE = 64
_FULL = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
_AGAIN_S = 0.2


class AcceptSocket:
    """A listening socket that does not block, polled by `epoll`. Times are the clock's seconds."""

    def __init__(self, listening: socket.socket, epoll: select.epoll, clock: Callable[[], float]) -> None:
        self._socket = listening
        self._epoll = epoll
        self._clock = clock
        self._deaf_until = float("inf")
        self.descriptor = listening.fileno()
        epoll.register(self.descriptor, select.EPOLLIN)

    def come(self) -> Iterator[tuple[socket.socket, Any]]:
        """The connections that have come, with their addresses."""
        for _ in range(_AT_ONCE):
            try:
                connection = self._socket.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in _FULL:
                    log.warning("cannot accept connections", why=error.strerror)
                    self._epoll.modify(self.descriptor, 0)
                    self._deaf_until = self._clock() + _AGAIN_S
                    return
                log.debug("accept failed", why=str(error))
                continue
            yield connection

    def look(self, now: float) -> float:
        """Listen again, if it is time for that; the answer is when to look again."""
        if now >= self._deaf_until:
            self._deaf_until = float("inf")
            self._epoll.modify(self.descriptor, select.EPOLLIN)
        return self._deaf_until

    def name(self) -> Any:
        """The address it listens at."""
        return self._socket.getsockname()

    def close(self) -> None:
        """Take nobody in any more."""
        self._socket.close()
