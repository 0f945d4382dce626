"""A connection for one frame after the other. Every wait has a deadline in monotonic seconds (`until`)."""

from __future__ import annotations

import os
import select
import socket
import time

from qslurm.wire.frames import NO_REQUEST, FrameError, FrameReader, frame, signed_frame

_READ = 1024 * 1024


class BlockingConnection:
    """A connected socket that sends and receives whole frames, with bodies of at most `limit` bytes.

    All errors are OSError (TimeoutError, FrameError, …) or EOFError. Close the connection after one: a late reply must
    not be taken for that of another request.
    """

    def __init__(self, connection: socket.socket, limit: int) -> None:
        self._socket = connection
        self._socket.setblocking(False)
        self._frames = FrameReader(limit)
        self._number = 0
        self._process = os.getpid()

    @property
    def is_ours(self) -> bool:
        """Whether this process made it: a forked child must not use its parent's connection."""
        return self._process == os.getpid()

    def fileno(self) -> int:
        """For select: `receive` reads nothing beyond the frame it returns."""
        return self._socket.fileno()

    def request(self, body: bytes, credential: bytes, until: float) -> bytes:
        """Send a signed request and return the body of its reply."""
        self._number += 1
        self._send(signed_frame(self._number, body, credential), until)
        number, reply = self.receive(until)
        if number != self._number:
            raise FrameError("reply to another request")
        return reply

    def send(self, body: bytes, until: float, *, number: int = NO_REQUEST) -> None:
        """Send a frame."""
        self._send(frame(number, body), until)

    def _send(self, data: bytes, until: float) -> None:
        unsent = memoryview(data)
        while unsent:
            try:
                unsent = unsent[self._socket.send(unsent) :]
            except BlockingIOError:
                self._wait(select.POLLOUT, until)

    def receive(self, until: float) -> tuple[int, bytes]:
        """The next frame's number and body; EOFError if the peer closed the connection between two frames."""
        self._wait(select.POLLIN, until)
        while (taken := self._frames.take()) is None:
            try:
                data = self._socket.recv(min(_READ, self._frames.missing))
            except BlockingIOError:
                self._wait(select.POLLIN, until)
                continue
            if not data:
                closed = ConnectionResetError if len(self._frames) else EOFError
                raise closed("connection closed by the peer")
            self._frames.feed(data)
        return taken

    def shutdown(self) -> None:
        """End it, also for a thread that waits for it."""
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            return  # already closed

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def _wait(self, events: int, until: float) -> None:
        poll = select.poll()
        poll.register(self._socket, events)
        if not poll.poll(max(0, round((until - time.monotonic()) * 1000))):
            raise TimeoutError("no reply in time")

    def __enter__(self) -> BlockingConnection:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
