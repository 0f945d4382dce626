"""Messages between the job manager and the renewal service, over a Unix socket.

The service knows the job manager by its uid (SO_PEERCRED). Tokens are in no file, log or process but these two.
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

MESSAGE_LIMIT = LIMIT + 4096
"""The largest message, in bytes."""

TIMEOUT_S = 10.0
"""For connecting, and for the reply; signing takes some 10 ms."""


class RenewalRequest(msgspec.Struct, tag="ask"):
    """Renew this token, or with `dry_run` say whether it would be renewed."""

    token: str
    dry_run: bool = False


class RenewalResult(msgspec.Struct, tag="given"):
    """The new token, or "" after a dry run, and when the token expires (Unix seconds). Renewals end at `until`."""

    token: str
    expires: int
    until: int


RenewalReply = RenewalResult | Failed

request_decoder: msgspec.msgpack.Decoder[RenewalRequest] = msgspec.msgpack.Decoder(RenewalRequest)
_answers: msgspec.msgpack.Decoder[RenewalReply] = msgspec.msgpack.Decoder(RenewalReply)


def request_renewal(
    path: str, token: Secret, *, dry_run: bool = False, timeout_s: float = TIMEOUT_S
) -> RenewalResult:
    """RenewalRequest the service at the socket `path` to renew a token.

    UnreachableError if it does not reply; TokenError, PermissionDeniedError or TooOftenError if it refuses.
    """
    until = time.monotonic() + timeout_s
    try:
        with BlockingConnection(connect_unix_socket(path, timeout_s), MESSAGE_LIMIT) as connection:
            connection.send(msgspec.msgpack.encode(RenewalRequest(token.reveal(), dry_run)), until)
            answer = _answers.decode(connection.receive(until)[1])
    except (OSError, EOFError, msgspec.DecodeError) as error:
        raise UnreachableError(
            "C2's renewal service does not answer.",
            hint="Try again later. The current token is valid until it expires.",
        ) from error
    if isinstance(answer, Failed):
        raise error_of(answer)
    return answer
