"""What a session's client and the dispatcher say to each other, in frames (qslurm.wire).

What belongs to no request: the client's Hello, the answer to it, the end of the session, and from the dispatcher an
empty frame every BEAT_S.
"""

from __future__ import annotations

import msgspec

from qslurm.errors import InvalidInputError

BEAT_S = 2.0
"""Between two signs of life of the dispatcher."""

SILENCE_S = 3 * BEAT_S
"""After so long without any the link is dead."""

PROTOCOL = 1
SECRET_BYTES = 32

QUESTION_LIMIT = 8 * 1024 * 1024
"""Bytes of a frame from a client, as at the dispatcher's socket."""

ANSWER_LIMIT = 320 * 1024 * 1024
"""Bytes of a frame from the dispatcher: raw data is large, and a quantum runtime may give 256 MiB at once."""


class Hello(msgspec.Struct, frozen=True, array_like=True):
    """Who comes shows the secret whose SHA-256 stands in its job."""

    protocol: int
    secret: bytes


hellos: msgspec.msgpack.Decoder[Hello] = msgspec.msgpack.Decoder(Hello)


def host_and_port(text: str) -> tuple[str, int]:
    """The two parts of `c2.example.org:8044` or `[::1]:8044`; InvalidInputError for anything else."""
    host, _, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not (host and port.isascii() and port.isdigit() and int(port) < 65536):
        raise InvalidInputError(f"{text!r} is not ADDRESS:PORT.", hint="Write it as c2.example.org:8044.")
    return host, int(port)
