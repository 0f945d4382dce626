"""A connection for one frame after the other. Every wait has a deadline in monotonic seconds (`until`)."""

from __future__ import annotations

import os
import select
import socket
import time
from collections.abc import Iterable
from os import getpid  # users' code may replace os.getpid

from qslurm.wire.frames import NO_REQUEST, FrameError, FrameReader, frame, signed_frame

_READ = 1024 * 1024


class BlockingConnection:
    """A connected socket that sends and receives whole frames, with bodies of at most `limit` bytes.

    All errors are OSError (TimeoutError, FrameError, …) or EOFError. Close the connection after one: a late reply must
    not be taken for that of another request. With `descriptors`, so many may come with a frame that belongs to no
    request; only over a Unix socket.
    """

    def __init__(self, connection: socket.socket, limit: int, *, descriptors: int = 0) -> None:
        self._socket = connection
        self._most_descriptors = descriptors
        self._descriptors: list[int] = []
        self._socket.setblocking(False)
        self._frames = FrameReader(limit)
        self._number = 0
        self._process = getpid()

    @property
    def is_ours(self) -> bool:
        """Whether this process made it: a forked child must not use its parent's connection."""
        return self._process == getpid()

    def fileno(self) -> int:
        """For select: `receive` reads nothing beyond the frame it returns."""
        return self._socket.fileno()

    def request(self, body: bytes, credential: bytes, until: float) -> bytes:
        """Send a signed request and return the body of its reply."""
        self._number += 1
        self._send(signed_frame(self._number, body, credential), until)
        number, reply = self.receive(until)
        while number == NO_REQUEST and self._most_descriptors:
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
                data = self._read(min(_READ, self._frames.missing))
            except BlockingIOError:
                self._wait(select.POLLIN, until)
                continue
            if not data:
                closed = ConnectionResetError if len(self._frames) else EOFError
                raise closed("connection closed by the peer")
            self._frames.feed(data)
        return taken

    def _read(self, size: int) -> bytes:
        if not self._most_descriptors:
            return self._socket.recv(size)
        data, descriptors, _, _ = socket.recv_fds(self._socket, size, self._most_descriptors)
        if descriptors:
            _close_all(self._descriptors)
            self._descriptors = list(descriptors)
            for descriptor in descriptors:
                os.set_inheritable(descriptor, False)
        return data

    def take_descriptors(self) -> list[int]:
        """The descriptors that came last, once; the caller closes them."""
        taken, self._descriptors = self._descriptors, []
        return taken

    @property
    def is_connected(self) -> bool:
        """Whether the peer has not closed the connection so far."""
        try:
            return self._socket.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) != b""
        except BlockingIOError:
            return True
        except OSError:
            return False

    def shutdown(self) -> None:
        """End it, also for a thread that waits for it."""
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            return  # already closed

    def close(self) -> None:
        """Close the socket, and descriptors that were not taken."""
        self._socket.close()
        _close_all(self.take_descriptors())

    def _wait(self, events: int, until: float) -> None:
        poll = select.poll()
        poll.register(self._socket, events)
        if not poll.poll(max(0, round((until - time.monotonic()) * 1000))):
            raise TimeoutError("no reply in time")

    def __enter__(self) -> BlockingConnection:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _close_all(descriptors: Iterable[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)
