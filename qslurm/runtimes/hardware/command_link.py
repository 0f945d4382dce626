"""Sends commands to a hardware server, one at a time, and waits for the reply within a limit."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from qslurm.errors import QslurmError
from qslurm.runtimes.hardware.messages import (
    REPLY_LIMIT,
    Command,
    ExecutePayload,
    Request,
    decode_reply,
    encode,
)
from qslurm.runtimes.machine_result import InvalidReplyError

if TYPE_CHECKING:
    import zmq

T = TypeVar("T")

_POLL_MS = 100


class NoReplyError(QslurmError):
    """The hardware server did not reply; whether it carried out the command is unknown."""


class HardwareLink:
    """A connection to the server's command port.

    A socket with a missing or invalid reply is closed, so that a late reply reaches no later command.
    """

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], endpoint: str) -> None:
        self._context = context
        self._endpoint = endpoint
        self._socket: zmq.Socket[bytes] | None = None

    def request(
        self,
        kind: type[T],
        session: str,
        command: Command,
        payload: ExecutePayload | None = None,
        *,
        timeout_s: float,
        abort_reason: Callable[[], str] = lambda: "",
    ) -> T:
        """Send a command and return the reply's payload as `kind`.

        `abort_reason` is called now and then while waiting; a reason that is not empty ends the wait. Raises
        NoReplyError without a reply, InvalidReplyError for an invalid one, HardwareRefusedError if the server
        refuses.
        """
        message = Request(session, command, payload)
        socket = self._open()
        try:
            socket.send(encode(message))
            self._wait(socket, command, timeout_s, abort_reason)
            answer = socket.recv_multipart()[-1]
        except BaseException:
            self.close()
            raise
        try:
            return decode_reply(answer, message, kind)
        except InvalidReplyError:
            self.close()
            raise

    def close(self) -> None:
        """Close the connection; the next command opens another."""
        if self._socket is not None:
            self._socket.close(linger=0)
            self._socket = None

    def _open(self) -> zmq.Socket[bytes]:
        import zmq

        if self._socket is None:
            self._socket = self._context.socket(zmq.REQ)
            self._socket.linger = 0
            self._socket.maxmsgsize = REPLY_LIMIT
            self._socket.connect(self._endpoint)
        return self._socket

    @staticmethod
    def _wait(
        socket: zmq.Socket[bytes], command: str, timeout_s: float, abort_reason: Callable[[], str]
    ) -> None:
        deadline = time.monotonic() + timeout_s
        while not socket.poll(_POLL_MS):
            if why := abort_reason():
                raise NoReplyError(why)
            if time.monotonic() > deadline:
                raise NoReplyError(f"it did not reply to {command} within {timeout_s:g} s")
