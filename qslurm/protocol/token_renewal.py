"""What the job manager and the renewal service say to each other over a Unix socket.

The kernel says who asks. The tokens themselves cross this socket and are in no other file, log or process than those
two.
"""

from __future__ import annotations

import time

import msgspec

from qslurm.errors import UnreachableError
from qslurm.tokens.claims import LIMIT
from qslurm.tokens.secret import Secret
from qslurm.wire.blocking import BlockingConnection
from qslurm.wire.failures import Failed, error_of
from qslurm.wire.unix_socket import connect_unix_socket

LARGEST = LIMIT + 4096
"""Bytes of a message."""

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


Answer = Given | Failed

ask_decoder: msgspec.msgpack.Decoder[Ask] = msgspec.msgpack.Decoder(Ask)
_answers: msgspec.msgpack.Decoder[Answer] = msgspec.msgpack.Decoder(Answer)


def ask(path: str, token: Secret, *, only_look: bool = False, patience_s: float = PATIENCE_S) -> Given:
    """What the service says to a token.

    UnreachableError if it is away, TokenError, PermissionDeniedError or TooOftenError as it refuses.
    """
    until = time.monotonic() + patience_s
    try:
        with BlockingConnection(connect_unix_socket(path, patience_s), LARGEST) as connection:
            connection.send(msgspec.msgpack.encode(Ask(token.reveal(), only_look)), until)
            answer = _answers.decode(connection.receive(until)[1])
    except (OSError, EOFError, msgspec.DecodeError) as error:
        raise UnreachableError(
            "C2's renewal service does not answer.",
            hint="Try again later; the old token works until it ends.",
        ) from error
    if isinstance(answer, Failed):
        raise error_of(answer)
    return answer
