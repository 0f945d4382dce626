"""A connection to the center's agent, one request at a time."""

from __future__ import annotations

import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from qslurm.c1.connection.agent_messages import (
    MAX_RESPONSE_BYTES,
    AgentRequest,
    encode,
    response_decoder,
)
from qslurm.errors import UnreachableError
from qslurm.wire.blocking import BlockingConnection
from qslurm.wire.failures import Failed, error_of
from qslurm.wire.unix_socket import connect_unix_socket

if TYPE_CHECKING:
    from qslurm.c1.config.settings import AgentSettings


T = TypeVar("T")


class AgentSocket:
    """A connection to the agent, opened on first use."""

    def __init__(self, settings: AgentSettings, timeout_s: float) -> None:
        self._settings = settings
        self._timeout_s = timeout_s
        self._link: BlockingConnection | None = None
        self._sign: Any = None
        self.maybe_sent = False
        """Whether the agent may have received the last request."""

    def ask(self, request: AgentRequest, answer: type[T]) -> T:
        """Send a request and return the answer; raises the agent's error, or UnreachableError.

        All requests are idempotent, so one on a kept connection that was closed is retried on a new one.
        """
        body, kept = encode(request), self._link is not None
        self.maybe_sent = False
        try:
            link = self._connected()
            credential = self._sign(body) if self._sign else b""
            self.maybe_sent = True
            until = time.monotonic() + self._timeout_s
            reply = response_decoder.decode(link.request(body, credential, until))
        except BaseException as error:
            self.close()  # an unread response must not answer the next request
            if not isinstance(error, OSError | EOFError | msgspec.DecodeError):
                raise
            if kept and not isinstance(error, TimeoutError):
                return self.ask(request, answer)
            why = getattr(error, "strerror", None) or str(error)
            raise UnreachableError(
                f"The center's agent at {self._where} did not answer ({why}).",
                hint="Tell the center's admins, or try again later.",
            ) from error
        if isinstance(reply, Failed):
            raise error_of(reply)
        try:
            return msgspec.convert(reply.value, answer)
        except msgspec.ValidationError as error:
            raise UnreachableError(
                f"The center's agent at {self._where} sent an answer that this version of qslurm cannot read.",
                hint="Install the same version of qslurm on this host and the agent's.",
            ) from error

    def close(self) -> None:
        """Close the connection."""
        if self._link is not None:
            self._link.close()
            self._link = None

    @property
    def _is_local(self) -> bool:
        """Connect by the Unix socket on the agent's host, elsewhere by its address."""
        return bool(self._settings.socket) and (
            not self._settings.address or Path(self._settings.socket).exists()
        )

    @property
    def _where(self) -> str:
        return self._settings.socket if self._is_local else self._settings.address

    def _connected(self) -> BlockingConnection:
        if self._link is None:
            if self._is_local:
                made = connect_unix_socket(self._settings.socket, self._timeout_s)
            else:
                from qslurm.c1.connection.agent_address import parse_address
                from qslurm.wire.credentials import Munge

                made = socket.create_connection(parse_address(self._settings.address), self._timeout_s)
                made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._sign = Munge(self._settings.munge_socket).sign
            self._link = BlockingConnection(made, MAX_RESPONSE_BYTES)
        return self._link
