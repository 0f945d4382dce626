"""Messages between a session's client and the dispatcher, in frames (qslurm.wire).

Frames without a request number: the client's SessionHello and its reply, the end of the session, and an empty frame
from the dispatcher every HEARTBEAT_S.
"""

from __future__ import annotations

import msgspec

from qslurm.errors import InvalidInputError

HEARTBEAT_S = 2.0
"""Interval of the dispatcher's heartbeats."""

HEARTBEAT_TIMEOUT_S = 3 * HEARTBEAT_S
"""Without a heartbeat for so long, the client reconnects."""

PROTOCOL = 1
SECRET_BYTES = 32

REQUEST_LIMIT = 8 * 1024 * 1024
"""The largest frame of a client, in bytes, as at the dispatcher's Unix socket."""

REPLY_LIMIT = 320 * 1024 * 1024
"""The largest frame of the dispatcher, in bytes: a quantum runtime may return 256 MiB of raw data."""


class SessionHello(msgspec.Struct, frozen=True, array_like=True):
    """Authenticates a client by the secret whose SHA-256 is in the session's job."""

    protocol: int
    secret: bytes


hello_decoder: msgspec.msgpack.Decoder[SessionHello] = msgspec.msgpack.Decoder(SessionHello)


def host_and_port(text: str) -> tuple[str, int]:
    """Split `c2.example.org:8044` or `[::1]:8044`; InvalidInputError for anything else."""
    host, _, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not (host and port.isascii() and port.isdigit() and int(port) < 65536):
        raise InvalidInputError(
            f"{text!r} is not ADDRESS:PORT.", hint="Use ADDRESS:PORT, for example c2.example.org:8044."
        )
    return host, int(port)
