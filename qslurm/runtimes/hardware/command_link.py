"""Asks a hardware server, one question at a time, and waits no longer than it may."""

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

_LOOK_MS = 100


class SilentError(QslurmError):
    """The hardware server gave no answer; whether it did what it was asked to is not known."""


class HardwareLink:
    """A connection to the server's command port.

    A socket whose question was not answered, or badly, is given up: what comes late for it reaches nobody.
    """

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], endpoint: str) -> None:
        self._context = context
        self._endpoint = endpoint
        self._socket: zmq.Socket[bytes] | None = None

    def ask(
        self,
        kind: type[T],
        session: str,
        command: Command,
        payload: ExecutePayload | None = None,
        *,
        timeout_s: float,
        given_up: Callable[[], str] = lambda: "",
    ) -> T:
        """Ask, and give the reply's payload as `kind`.

        `given_up` is asked now and then while waiting, and ends it with a reason that is not empty. SilentError
        without an answer, InvalidReplyError for a wrong one, HardwareRefusedError if the server says no.
        """
        request = Request(session, command, payload)
        socket = self._open()
        try:
            socket.send(encode(request))
            self._wait(socket, command, timeout_s, given_up)
            answer = socket.recv_multipart()[-1]
        except BaseException:
            self.close()
            raise
        try:
            return decode_reply(answer, request, kind)
        except InvalidReplyError:
            self.close()
            raise

    def close(self) -> None:
        """Give the connection up; the next question opens another."""
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
    def _wait(socket: zmq.Socket[bytes], command: str, timeout_s: float, given_up: Callable[[], str]) -> None:
        end = time.monotonic() + timeout_s
        while not socket.poll(_LOOK_MS):
            if why := given_up():
                raise SilentError(why)
            if time.monotonic() > end:
                raise SilentError(f"it did not reply to {command} within {timeout_s:g} s")
