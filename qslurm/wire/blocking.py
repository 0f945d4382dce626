"""A connection over which one waits for each frame, but never longer than until a given time (monotonic seconds)."""

from __future__ import annotations

import os
import select
import socket
import time

from qslurm.wire.frames import NO_REQUEST, FrameError, FrameReader, frame, signed_frame

_READ = 1024 * 1024


class BlockingConnection:
    """Whatever goes wrong is an OSError: TimeoutError, FrameError, or what the connection itself says.

    Close it then: what comes late must not be taken for the answer to another request. `limit` bounds a frame's body.
    """

    def __init__(self, connection: socket.socket, limit: int) -> None:
        self._socket = connection
        self._socket.setblocking(False)
        self._frames = FrameReader(limit)
        self._number = 0
        self._process = os.getpid()

    @property
    def is_ours(self) -> bool:
        """Whether this process has made it: a fork must not speak in its parent's place."""
        return self._process == os.getpid()

    def fileno(self) -> int:
        """For select: nothing is read beyond the frame that is received."""
        return self._socket.fileno()

    def request(self, body: bytes, credential: bytes, until: float) -> bytes:
        """Send a signed request: its answer's body."""
        self._number += 1
        self._send(signed_frame(self._number, body, credential), until)
        number, answer = self.receive(until)
        if number != self._number:
            raise FrameError("it answers another request")
        return answer

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
        """The next frame's number and body; EOFError if the other side has hung up before one began."""
        self._wait(select.POLLIN, until)
        while (taken := self._frames.take()) is None:
            try:
                data = self._socket.recv(min(_READ, self._frames.missing))
            except BlockingIOError:
                self._wait(select.POLLIN, until)
                continue
            if not data:
                raise (
                    ConnectionResetError("it closed the connection")
                    if len(self._frames)
                    else EOFError("it closed the connection")
                )
            self._frames.feed(data)
        return taken

    def shutdown(self) -> None:
        """End it for whoever waits for it in another thread."""
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            return  # it has ended

    def close(self) -> None:
        """Let go of it."""
        self._socket.close()

    def _wait(self, events: int, until: float) -> None:
        poll = select.poll()
        poll.register(self._socket, events)
        if not poll.poll(max(0, round((until - time.monotonic()) * 1000))):
            raise TimeoutError("it does not answer")

    def __enter__(self) -> BlockingConnection:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
