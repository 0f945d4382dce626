"""A connection to the center's agent: one question after the other."""

from __future__ import annotations

import errno
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from qslurm.c1.connection.agent_messages import (
    HEADER,
    LARGEST_ANSWER,
    Failed,
    Question,
    answers,
    encode,
    error_of,
)
from qslurm.errors import UnreachableError
from qslurm.system.unix_socket import connected_unix

if TYPE_CHECKING:
    from qslurm.c1.config.center_config import AgentSettings


T = TypeVar("T")


class AgentSocket:
    """A connection to the agent, made when it is needed."""

    def __init__(self, settings: AgentSettings, timeout_s: float) -> None:
        self._settings = settings
        self._timeout_s = timeout_s
        self._link: socket.socket | None = None
        self._sign: Any = None
        self.asked = False
        """Whether the agent may have heard the last question."""

    def ask(self, question: Question, answer: type[T]) -> T:
        """The answer; the error that the agent says, or UnreachableError.

        Every question may be asked twice, so a kept connection that turns out to be closed is made anew.
        """
        body, kept = encode(question), self._link is not None
        self.asked = False
        try:
            link = self._connected()
            credential = self._sign(body) if self._sign else b""
            self.asked = True
            for part in (credential, body):
                link.sendall(len(part).to_bytes(HEADER, "big") + part)
            size = int.from_bytes(_exactly(link, HEADER), "big")
            said = answers.decode(_exactly(link, size))
        except BaseException as error:
            self.close()  # what is left unread (by who was interrupted, say) must not answer the next question
            if not isinstance(error, OSError | EOFError | msgspec.DecodeError):
                raise
            if kept and not isinstance(error, TimeoutError):
                return self.ask(question, answer)
            why = getattr(error, "strerror", None) or (
                "it hung up" if isinstance(error, EOFError) else str(error)
            )
            raise UnreachableError(
                f"The center's agent at {self._where} did not answer ({why}).",
                hint="Tell the center's admins, or try again later.",
            ) from error
        if isinstance(said, Failed):
            raise error_of(said)
        try:
            return msgspec.convert(said.value, answer)
        except msgspec.ValidationError as error:
            raise UnreachableError(
                f"The center's agent at {self._where} answers otherwise than this qslurm expects.",
                hint="Is qslurm on this host as new as the agent?",
            ) from error

    def close(self) -> None:
        """Hang up."""
        if self._link is not None:
            self._link.close()
            self._link = None

    @property
    def _by_socket(self) -> bool:
        """On the agent's own host it is asked by its socket, elsewhere by its address."""
        return bool(self._settings.socket) and (
            not self._settings.address or Path(self._settings.socket).exists()
        )

    @property
    def _where(self) -> str:
        return self._settings.socket if self._by_socket else self._settings.address

    def _connected(self) -> socket.socket:
        if self._link is None:
            if self._by_socket:
                self._link = connected_unix(self._settings.socket, self._timeout_s)
            else:
                from qslurm.c1.connection.agent_address import parse_address
                from qslurm.protocol.credentials import Munge

                self._link = socket.create_connection(parse_address(self._settings.address), self._timeout_s)
                self._link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._sign = Munge(self._settings.munge_socket).sign
        return self._link


def _exactly(link: socket.socket, length: int) -> bytes:
    if length > LARGEST_ANSWER:
        raise OSError(errno.EMSGSIZE, "what answers there is no agent")
    data = bytearray()
    while len(data) < length:
        piece = link.recv(min(length - len(data), 1 << 20))
        if not piece:
            raise EOFError
        data += piece
    return bytes(data)
