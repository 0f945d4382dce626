"""What the job manager and the renewal service say to each other over a Unix socket: a msgpack frame each way.

A frame is its length (4 bytes, big-endian) and that many bytes. The kernel says who asks. The tokens themselves cross
this socket and are in no other file, log or process than those two.
"""

from __future__ import annotations

import socket
import time

import msgspec

from qslurm.errors import PermissionDeniedError, QslurmError, TokenError, UnreachableError
from qslurm.system.unix_socket import connected_unix
from qslurm.tokens.claims import LIMIT
from qslurm.tokens.secret import Secret

HEADER = 4
LARGEST = LIMIT + 4096
PATIENCE_S = 10.0
"""Signing takes some ten milliseconds."""


class Ask(msgspec.Struct, tag="ask"):
    """A token that is to be renewed, or (`only_look`) of which is asked whether it would be."""

    token: str
    only_look: bool = False


class Given(msgspec.Struct, tag="given"):
    """The new token and its end, or "" and the old one's end if it was only asked; renewals end at `until` (Unix s)."""

    token: str
    expires: int
    until: int


class Refused(msgspec.Struct, tag="refused"):
    """There is none: an error's kind, sentence and hint."""

    kind: str
    message: str
    hint: str = ""


Answer = Given | Refused

ask_decoder: msgspec.msgpack.Decoder[Ask] = msgspec.msgpack.Decoder(Ask)
_answers: msgspec.msgpack.Decoder[Answer] = msgspec.msgpack.Decoder(Answer)
_ERRORS: dict[str, type[QslurmError]] = {error.kind: error for error in (TokenError, PermissionDeniedError)}


class TooOftenError(QslurmError):
    """The center asks for more renewals than anybody needs."""

    kind = "too_often"


def ask(path: str, token: Secret, *, only_look: bool = False, patience_s: float = PATIENCE_S) -> Given:
    """What the service says to a token.

    UnreachableError if it is away, TokenError, PermissionDeniedError or TooOftenError as it refuses.
    """
    try:
        with connected_unix(path, patience_s) as connection:
            until = time.monotonic() + patience_s
            send(connection, msgspec.msgpack.encode(Ask(token.reveal(), only_look)))
            answer = _answers.decode(receive(connection, until))
    except (OSError, EOFError, msgspec.DecodeError) as error:
        raise UnreachableError(
            "C2's renewal service does not answer.",
            hint="Try again later; the old token works until it ends.",
        ) from error
    if isinstance(answer, Refused):
        raise (TooOftenError if answer.kind == TooOftenError.kind else _ERRORS.get(answer.kind, QslurmError))(
            answer.message, hint=answer.hint
        )
    return answer


def send(connection: socket.socket, body: bytes) -> None:
    """Send a frame."""
    connection.sendall(len(body).to_bytes(HEADER, "big") + body)


def receive(connection: socket.socket, until: float) -> bytes:
    """The body of a frame that is complete before `until` (monotonic seconds).

    EOFError if it ends early or is too large, TimeoutError (an OSError) if it comes too slowly.
    """
    size = int.from_bytes(_exactly(connection, HEADER, until), "big")
    if size > LARGEST:
        raise EOFError("the frame is too large")
    return _exactly(connection, size, until)


def _exactly(connection: socket.socket, size: int, until: float) -> bytes:
    pieces = bytearray()
    while len(pieces) < size:
        left = until - time.monotonic()
        if left <= 0:
            raise TimeoutError("the frame comes too slowly")
        connection.settimeout(left)
        piece = connection.recv(size - len(pieces))
        if not piece:
            raise EOFError("the frame ends early")
        pieces += piece
    return bytes(pieces)
