"""A connection to the center's agent, one request at a time."""

from __future__ import annotations

import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from qslurm.c1.connection.agent_messages import (
    LARGEST_ANSWER,
    Question,
    answers,
    encode,
)
from qslurm.errors import UnreachableError
from qslurm.wire.blocking import BlockingConnection
from qslurm.wire.failures import Failed, error_of
from qslurm.wire.unix_socket import connect_unix_socket

if TYPE_CHECKING:
    from qslurm.c1.config.center_config import AgentSettings


T = TypeVar("T")


class AgentSocket:
    """A connection to the agent, opened on first use."""

    def __init__(self, settings: AgentSettings, timeout_s: float) -> None:
        self._settings = settings
        self._timeout_s = timeout_s
        self._link: BlockingConnection | None = None
        self._sign: Any = None
        self.asked = False
        """Whether the agent may have received the last request."""

    def ask(self, question: Question, answer: type[T]) -> T:
        """Send a request and return the answer; raises the agent's error, or UnreachableError.

        Every question may be asked twice, so a kept connection that turns out to be closed is made anew.
        """
        body, kept = encode(question), self._link is not None
        self.asked = False
        try:
            link = self._connected()
            credential = self._sign(body) if self._sign else b""
            self.asked = True
            until = time.monotonic() + self._timeout_s
            reply = answers.decode(link.request(body, credential, until))
        except BaseException as error:
            self.close()  # what is left unread (by who was interrupted, say) must not answer the next question
            if not isinstance(error, OSError | EOFError | msgspec.DecodeError):
                raise
            if kept and not isinstance(error, TimeoutError):
                return self.ask(question, answer)
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
    def _by_socket(self) -> bool:
        """Connect by the Unix socket on the agent's host, elsewhere by its address."""
        return bool(self._settings.socket) and (
            not self._settings.address or Path(self._settings.socket).exists()
        )

    @property
    def _where(self) -> str:
        return self._settings.socket if self._by_socket else self._settings.address

    def _connected(self) -> BlockingConnection:
        if self._link is None:
            if self._by_socket:
                made = connect_unix_socket(self._settings.socket, self._timeout_s)
            else:
                from qslurm.c1.connection.agent_address import parse_address
                from qslurm.wire.credentials import Munge

                made = socket.create_connection(parse_address(self._settings.address), self._timeout_s)
                made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._sign = Munge(self._settings.munge_socket).sign
            self._link = BlockingConnection(made, LARGEST_ANSWER)
        return self._link
