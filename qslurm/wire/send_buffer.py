"""Bytes for a connection that it has not taken yet."""

from __future__ import annotations

import socket
from collections import deque


class SendBuffer:
    """What is still to be sent over a connection that does not block, in order; `size` is how many bytes that are."""

    def __init__(self, connection: socket.socket) -> None:
        self.size = 0
        self._connection = connection
        self._pieces: deque[memoryview] = deque()

    def __bool__(self) -> bool:
        return self.size > 0

    def send(self, data: bytes) -> None:
        """Send, and keep what is not taken at once. OSError if the connection is broken."""
        if not data:
            return
        waits = bool(self)
        self._pieces.append(memoryview(data))
        self.size += len(data)
        if not waits:  # or else the connection tells when it takes more
            self.flush()

    def flush(self) -> None:
        """Send what is taken now. OSError if the connection is broken."""
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
