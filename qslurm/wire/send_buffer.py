"""Bytes that a non-blocking socket has not taken yet."""

from __future__ import annotations

import socket
from collections import deque


class SendBuffer:
    """The unsent bytes of a connection, in order; `size` is their number."""

    def __init__(self, connection: socket.socket) -> None:
        self.size = 0
        self._connection = connection
        self._pieces: deque[memoryview] = deque()

    def __bool__(self) -> bool:
        return self.size > 0

    def send(self, data: bytes) -> None:
        """Send `data`, and keep what the socket does not take. OSError if the connection is broken."""
        if not data:
            return
        was_empty = not self
        self._pieces.append(memoryview(data))
        self.size += len(data)
        if was_empty:  # otherwise the caller flushes when the socket is writable
            self.flush()

    def flush(self) -> None:
        """Send what the socket takes now. OSError if the connection is broken."""
        while self._pieces:
            try:
                sent = self._connection.send(self._pieces[0])
            except BlockingIOError:
                return
            self.size -= sent
            rest = self._pieces[0][sent:]
            if rest:
                self._pieces[0] = rest
            else:
                self._pieces.popleft()
