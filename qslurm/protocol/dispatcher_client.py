"""A client of the dispatcher, for hooks, operators' commands and job steps."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING

from qslurm.errors import InvalidInputError, QslurmError, UnreachableError
from qslurm.protocol.dispatcher_frames import BODY_LIMIT, RUNTIME_LIMIT, decode_reply, encode
from qslurm.protocol.messages import (
    Admit,
    Attach,
    Begin,
    End,
    Finish,
    GetEnds,
    GetMetrics,
    GetStatus,
    Message,
    Refused,
    Release,
    Reserve,
    SetBackend,
)
from qslurm.wire import failures
from qslurm.wire.blocking import BlockingConnection
from qslurm.wire.credentials import Identity, Munge
from qslurm.wire.unix_socket import connect_unix_socket_by

if TYPE_CHECKING:
    import socket

LANE_DESCRIPTORS = 2
"""Those of a lane: its memory, and a socket that wakes its side."""

_SIGNED = (Admit, Attach, Begin, End, Finish, GetEnds, GetMetrics, SetBackend, Reserve, Release)


class DispatcherClient:
    """Sends one request at a time. Use it as a context manager, in one thread.

    `socket` is the path of the dispatcher's socket, `identity` makes credentials (default: MUNGE). `link` connects by a
    deadline (monotonic seconds) or raises OSError; by default it connects to `socket`.
    """

    def __init__(
        self,
        socket: str,
        *,
        munge_socket: str = "",
        timeout_s: float = 5.0,
        identity: Identity | None = None,
        link: Callable[[float], BlockingConnection] | None = None,
    ) -> None:
        self._path = socket
        self._connect = link or (lambda until: step_connection(connect_unix_socket_by(socket, until)))
        self._timeout_s = timeout_s
        self._identity = identity or Munge(munge_socket, timeout_s=timeout_s)
        self._link: BlockingConnection | None = None

    def ask(self, message: Message, *, timeout_s: float | None = None) -> Message:
        """Send a request and wait for the reply.

        UnreachableError if there is none in time, InvalidInputError if the request is too large. A refusal is raised as
        the error it names.
        """
        answer = self.exchange(message, timeout_s=timeout_s)
        if isinstance(answer, Refused):
            raise error_from(answer.kind, answer.reason)
        return answer

    def exchange(
        self, message: Message, *, secret: bytes | None = None, timeout_s: float | None = None
    ) -> Message:
        """As `ask`, but a refusal is returned. A session's `secret` takes the place of a credential."""
        until = time.monotonic() + (self._timeout_s if timeout_s is None else timeout_s)
        body = encode(message)
        if len(body) > BODY_LIMIT:
            # The dispatcher would close the connection, and callers would retry.
            raise InvalidInputError(
                f"The message to the dispatcher has {len(body) / 2**20:.1f} MiB;"
                f" the limit is {BODY_LIMIT // 2**20} MiB."
            )
        if secret is None:
            secret = self._credential(message, body)
        return decode_reply(self._roundtrip(body, secret, until))

    def _credential(self, message: Message, body: bytes) -> bytes:
        if isinstance(message, _SIGNED):
            return self._identity.sign(body)
        if isinstance(message, GetStatus) and message.jobs:
            with suppress(UnreachableError):  # the backends' states need no credential
                return self._identity.sign(body)
        return b""

    def _roundtrip(self, body: bytes, credential: bytes, until: float) -> bytes:
        if self._link is not None and not self._link.is_ours:
            self._link = None  # the parent process still uses it
        try:
            self._link = self._link or self._connect(until)
            return self._link.request(body, credential, until)
        except (OSError, EOFError) as error:
            self.close()
            raise UnreachableError(
                f"The dispatcher at {self._path} does not answer.",
                hint="Is it running (qslurm dispatcher status), and may this user reach its socket?",
            ) from error
        except BaseException:
            self.close()  # the reply may still arrive
            raise

    @property
    def is_connected(self) -> bool:
        """Whether the dispatcher has not closed the connection so far."""
        return self._link is not None and self._link.is_connected

    def take_descriptors(self) -> list[int]:
        """The descriptors of a lane, if one came with the last replies; the caller closes them."""
        return [] if self._link is None else self._link.take_descriptors()

    def close(self) -> None:
        """Close the connection."""
        if self._link is not None:
            self._link.close()
            self._link = None

    def __enter__(self) -> DispatcherClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def step_connection(connection: socket.socket) -> BlockingConnection:
    """A connection to the dispatcher's socket that also receives lanes."""
    return BlockingConnection(connection, RUNTIME_LIMIT, descriptors=LANE_DESCRIPTORS)


def error_from(kind: str, reason: str) -> QslurmError:
    """The error of a refusal or a failed execution."""
    return failures.error_of(failures.Failed(kind, reason))
