"""Frames: a length (4 bytes, big-endian, without these), the number of a request (8 bytes), and a body.

An answer has the number of its request. Number 0 belongs to no request. Bodies are MessagePack.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

NO_REQUEST = 0

CREDENTIAL_LIMIT = 4096
"""The largest credential, in bytes."""

SIGNED_SLACK = CREDENTIAL_LIMIT + 64
"""Bytes that signing adds to a body, at most."""

_LENGTH, _NUMBER = 4, 8
OVERHEAD = _LENGTH + _NUMBER
"""Bytes of a frame besides its body."""


class FrameError(ConnectionError):
    """The peer violates the protocol. Close the connection."""


class Signed(msgspec.Struct, frozen=True, array_like=True):
    """A body with its credential, which is empty where the connection itself identifies the user."""

    body: bytes
    credential: Annotated[bytes, msgspec.Meta(max_length=CREDENTIAL_LIMIT)] = b""


_signed: msgspec.msgpack.Decoder[Signed] = msgspec.msgpack.Decoder(Signed)
_encoder = msgspec.msgpack.Encoder()


def frame(number: int, body: bytes) -> bytes:
    """An encoded frame."""
    return (_NUMBER + len(body)).to_bytes(_LENGTH, "big") + number.to_bytes(_NUMBER, "big") + body


def signed_frame(number: int, body: bytes, credential: bytes) -> bytes:
    """An encoded frame with a signed body."""
    return frame(number, _encoder.encode(Signed(body, credential)))


def open_signed(body: bytes) -> Signed:
    """Decode a signed body; FrameError if it is invalid."""
    try:
        return _signed.decode(body)
    except msgspec.DecodeError as error:
        raise FrameError("request is not signed") from error


def read_head(data: bytes | bytearray, limit: int) -> tuple[int, int]:
    """The number of a frame and the size of its body, from its first OVERHEAD bytes."""
    return int.from_bytes(data[_LENGTH:OVERHEAD], "big"), _size(data, limit)


def _size(data: bytes | bytearray, limit: int) -> int:
    size = int.from_bytes(data[:_LENGTH], "big") - _NUMBER
    if not 0 <= size <= limit:
        raise FrameError("invalid frame length")
    return size


class FrameReader:
    """Splits received bytes into frames. A body of more than `limit` bytes is a FrameError."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._data = bytearray()

    def __len__(self) -> int:
        """Bytes that are buffered."""
        return len(self._data)

    @property
    def missing(self) -> int:
        """Bytes that complete the head of the next frame, or the frame itself."""
        have = len(self._data)
        if have < OVERHEAD:
            return OVERHEAD - have
        return max(0, _LENGTH + int.from_bytes(self._data[:_LENGTH], "big") - have)

    def feed(self, data: bytes) -> None:
        """Add received bytes."""
        self._data += data

    def take(self) -> tuple[int, bytes] | None:
        """The next frame's number and body; None if it is not complete."""
        if len(self._data) < _LENGTH:
            return None
        end = OVERHEAD + _size(self._data, self.limit)
        if len(self._data) < end:
            return None
        number = int.from_bytes(self._data[_LENGTH:OVERHEAD], "big")
        with memoryview(self._data) as view, view[OVERHEAD:end] as body:
            taken = bytes(body)
        del self._data[:end]
        return number, taken
