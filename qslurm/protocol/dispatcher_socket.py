"""A client's connection to the dispatcher's Unix socket: one question, one answer, as a DEALER of ZeroMQ has them.

Not libzmq's, which takes a job step 10 ms to load and a thread to run: what asks one thing at a time needs neither.
"""

from __future__ import annotations

import os
import select
import socket
import time

from qslurm.protocol.dispatcher_frames import MESSAGE_SLACK, RUNTIME_LIMIT
from qslurm.protocol.zmtp import GREETING, Wire, WireError, pack, ready

_READ = 256 * 1024
_AGAIN_S = 0.02  # between two looks whether somebody listens


class LinkError(Exception):
    """There is no answer, and there will be none over this connection."""


class Link:
    """A connection. Close it after a LinkError: a late answer must not be taken for that of the next question."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._socket.setblocking(False)
        self._wire = Wire(limit=RUNTIME_LIMIT, slack=MESSAGE_SLACK, frames=2, peers=(b"ROUTER",))
        self._greeted = False
        self._process = os.getpid()

    @property
    def is_ours(self) -> bool:
        """Whether this process has made it: a fork must not speak in its parent's place."""
        return self._process == os.getpid()

    def ask(self, body: bytes, credential: bytes, until: float) -> bytes:
        """Ask, and give the answer's body; LinkError if there is none by then (monotonic seconds)."""
        try:
            if not self._greeted:
                self._greeted = True
                self._say(GREETING + ready(b"DEALER"), until)
                while not self._wire.ready:  # a question before that would end the connection (RFC 23)
                    self._read(until)
                    self._wire.take()
            self._say(pack([b"", body, credential]), until)
            while (message := self._wire.take()) is None:
                self._read(until)
        except (OSError, WireError) as error:
            raise LinkError(str(error)) from error
        return message[-1]

    def close(self) -> None:
        """Let go of it."""
        self._socket.close()

    def _say(self, data: bytes, until: float) -> None:
        unsent = memoryview(data)
        while unsent:
            self._wait(select.POLLOUT, until)
            unsent = unsent[self._socket.send(unsent) :]

    def _read(self, until: float) -> None:
        self._wait(select.POLLIN, until)
        data = self._socket.recv(_READ)
        if not data:
            raise LinkError("it has ended the connection")
        self._wire.feed(data)

    def _wait(self, events: int, until: float) -> None:
        poll = select.poll()
        poll.register(self._socket, events)
        if not poll.poll(max(0, round((until - time.monotonic()) * 1000))):
            raise LinkError("it does not answer")


def connect(path: str, until: float) -> Link:
    """Connect to a dispatcher's socket, which may come only now; LinkError if it is not there by then."""
    while True:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.settimeout(max(0.001, until - time.monotonic()))
            connection.connect(path)
        except OSError as error:
            connection.close()
            if time.monotonic() + _AGAIN_S >= until:
                raise LinkError(error.strerror or str(error)) from error
            time.sleep(_AGAIN_S)
        else:
            return Link(connection)
