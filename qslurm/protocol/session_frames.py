"""What a session's client and its door say to each other: numbered frames of MessagePack.

A frame is its length (4 bytes, big-endian, without these), the number of the question that it belongs to (8 bytes), and
a message. Number 0 belongs to no question: the client's Hello, the answer to it, the end of the session, and from the
door an empty frame every BEAT_S.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from qslurm.errors import InvalidInputError, QslurmError

BEAT_S = 2.0
"""Between two signs of life of the door."""

SILENCE_S = 3 * BEAT_S
"""After so long without any the link is dead."""

PROTOCOL = 1
SECRET_BYTES = 32

NO_QUESTION = 0

HELLO_LIMIT = 256
"""Bytes of a frame from somebody who has not shown yet whose client it is."""

QUESTION_LIMIT = 8 * 1024 * 1024
"""Bytes of a frame from a client, as at the dispatcher's socket."""

ANSWER_LIMIT = 320 * 1024 * 1024
"""Bytes of a frame from the door: raw data is large, and a quantum runtime may give 256 MiB at once."""

_LENGTH, _NUMBER = 4, 8


class Hello(msgspec.Struct, frozen=True, array_like=True):
    """Who comes shows the secret whose SHA-256 stands in its job."""

    protocol: int
    secret: bytes


hellos: msgspec.msgpack.Decoder[Hello] = msgspec.msgpack.Decoder(Hello)


class BrokenFrameError(QslurmError):
    """The other side does not keep to the rules: the connection has to be ended."""


def frame(number: int, body: bytes) -> bytes:
    """A frame as it travels."""
    return (_NUMBER + len(body)).to_bytes(_LENGTH, "big") + number.to_bytes(_NUMBER, "big") + body


def frames(data: bytearray, limit: int) -> Iterator[tuple[int, bytes]]:
    """Take whole frames off the front of what has come; BrokenFrameError for one that is longer than the limit."""
    while (size := next_frame(data, limit)) is not None and len(data) >= _LENGTH + size:
        number = int.from_bytes(data[_LENGTH : _LENGTH + _NUMBER], "big")
        body = bytes(data[_LENGTH + _NUMBER : _LENGTH + size])
        del data[: _LENGTH + size]
        yield number, body


def next_frame(data: bytearray, limit: int) -> int | None:
    """The length of the frame that stands first; None while that has not come."""
    if len(data) < _LENGTH:
        return None
    size = int.from_bytes(data[:_LENGTH], "big")
    if not _NUMBER <= size <= _NUMBER + limit:
        raise BrokenFrameError("It sends a frame that is too long, or none.")
    return size


def host_and_port(text: str) -> tuple[str, int]:
    """The two parts of `c2.example.org:8044` or `[::1]:8044`; InvalidInputError for anything else."""
    host, _, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not (host and port.isascii() and port.isdigit() and int(port) < 65536):
        raise InvalidInputError(f"{text!r} is not ADDRESS:PORT.", hint="Write it as c2.example.org:8044.")
    return host, int(port)
