"""The dispatcher's clients: hooks, operators' commands, and what a job step's session is built on."""

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
    """Asks the dispatcher one thing at a time. Use it as a context manager, in one thread.

    `socket` is the path of the dispatcher's socket, `identity` says how to prove who asks (default: MUNGE). `link`
    connects by a time (monotonic seconds) or raises OSError; the default connects to that path.
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
        self._place = socket
        self._connect = link or (lambda until: step_connection(connect_unix_socket_by(socket, until)))
        self._timeout_s = timeout_s
        self._identity = identity or Munge(munge_socket, timeout_s=timeout_s)
        self._link: BlockingConnection | None = None

    def ask(self, message: Message, *, timeout_s: float | None = None) -> Message:
        """Ask, and wait for the answer.

        No answer in time is UnreachableError, too large a message InvalidInputError; a refusal is the error it
        names (PermissionDeniedError, InvalidInputError … or plain QslurmError).
        """
        answer = self.exchange(message, timeout_s=timeout_s)
        if isinstance(answer, Refused):
            raise error_of(answer.kind, answer.reason)
        return answer

    def exchange(
        self, message: Message, *, secret: bytes | None = None, timeout_s: float | None = None
    ) -> Message:
        """As `ask`, with a session's secret instead of a credential; a refusal is given back as it is."""
        until = time.monotonic() + (self._timeout_s if timeout_s is None else timeout_s)
        body = encode(message)
        if len(body) > BODY_LIMIT:
            # The dispatcher would end the connection, and whoever asks would ask again and again.
            raise InvalidInputError(
                f"{len(body) / 2**20:.1f} MiB are more than can be sent to the dispatcher at once"
                f" ({BODY_LIMIT // 2**20} MiB)."
            )
        if secret is None:
            secret = self._credential(message, body)
        return decode_reply(self._roundtrip(body, secret, until))

    def _credential(self, message: Message, body: bytes) -> bytes:
        if isinstance(message, _SIGNED):
            return self._identity.sign(body)
        if isinstance(message, GetStatus) and message.jobs:
            with suppress(UnreachableError):  # how the backends are, strangers are told as well
                return self._identity.sign(body)
        return b""

    def _roundtrip(self, body: bytes, credential: bytes, until: float) -> bytes:
        if self._link is not None and not self._link.is_ours:
            self._link = None  # our parent's, which goes on with it
        try:
            self._link = self._link or self._connect(until)
            return self._link.request(body, credential, until)
        except (OSError, EOFError) as error:
            self.close()
            raise UnreachableError(
                f"The dispatcher at {self._place} does not answer.",
                hint="Is it running (qslurm dispatcher status), and may this user reach its socket?",
            ) from error
        except BaseException:
            self.close()  # the question may still be under way
            raise

    @property
    def is_connected(self) -> bool:
        """Whether the dispatcher has not closed the connection so far."""
        return self._link is not None and self._link.is_connected

    def take_descriptors(self) -> list[int]:
        """The descriptors of a lane, if one came with the last replies; the caller closes them."""
        return [] if self._link is None else self._link.take_descriptors()

    def close(self) -> None:
        """Let go of the connection."""
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
    """A connection to the dispatcher's socket, over which lanes come as well."""
    return BlockingConnection(connection, RUNTIME_LIMIT, descriptors=LANE_DESCRIPTORS)


def error_of(kind: str, reason: str) -> QslurmError:
    """The error that a refusal or a failed execution stands for."""
    return failures.error_of(failures.Failed(kind, reason))
