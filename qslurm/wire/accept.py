"""A listening socket that pauses while the process has no descriptors left."""

from __future__ import annotations

import errno
import select
import socket
from collections.abc import Callable, Iterator
from typing import Any

from qslurm.system.event_log import EventLog

log = EventLog(__name__)

_MOST_PER_ROUND = 64
_OUT_OF_RESOURCES = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
_PAUSE_S = 0.2


class AcceptSocket:
    """A listening, non-blocking socket, registered with `epoll`. Times are the clock's seconds."""

    def __init__(self, listening: socket.socket, epoll: select.epoll, clock: Callable[[], float]) -> None:
        self._socket = listening
        self._epoll = epoll
        self._clock = clock
        self._paused_until = float("inf")
        self.descriptor = listening.fileno()
        epoll.register(self.descriptor, select.EPOLLIN)

    def accept(self) -> Iterator[tuple[socket.socket, Any]]:
        """New connections, with their addresses."""
        for _ in range(_MOST_PER_ROUND):
            try:
                connection = self._socket.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in _OUT_OF_RESOURCES:
                    log.warning("cannot accept connections", why=error.strerror)
                    self._epoll.modify(self.descriptor, 0)
                    self._paused_until = self._clock() + _PAUSE_S
                    return
                log.debug("accept failed", why=str(error))
                continue
            yield connection

    def resume(self, now: float) -> float:
        """Accept again after a pause. Returns when to call this next."""
        if now >= self._paused_until:
            self._paused_until = float("inf")
            self._epoll.modify(self.descriptor, select.EPOLLIN)
        return self._paused_until

    def close(self) -> None:
        """Stop listening."""
        self._socket.close()
