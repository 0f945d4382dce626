"""Frames: a length (4 bytes, big-endian, without these), the number of a request (8 bytes), and a body.

An answer has the number of its request. Number 0 belongs to no request. Bodies are MessagePack.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

NO_REQUEST = 0

CREDENTIAL_LIMIT = 4096
"""Bytes of a credential."""

SIGNED_SLACK = CREDENTIAL_LIMIT + 64
"""Bytes by which a signed body is longer than the body."""

_LENGTH, _NUMBER = 4, 8
OVERHEAD = _LENGTH + _NUMBER
"""Bytes of a frame besides its body."""


class FrameError(ConnectionError):
    """The other side does not keep to the protocol: close the connection."""


class Signed(msgspec.Struct, frozen=True, array_like=True):
    """A body with the credential that was made for it; an empty one where the connection says who asks."""

    body: bytes
    credential: Annotated[bytes, msgspec.Meta(max_length=CREDENTIAL_LIMIT)] = b""


_signed: msgspec.msgpack.Decoder[Signed] = msgspec.msgpack.Decoder(Signed)
_encoder = msgspec.msgpack.Encoder()


def frame(number: int, body: bytes) -> bytes:
    """A frame as it travels."""
    return (_NUMBER + len(body)).to_bytes(_LENGTH, "big") + number.to_bytes(_NUMBER, "big") + body


def signed_frame(number: int, body: bytes, credential: bytes) -> bytes:
    """A frame with a signed body."""
    return frame(number, _encoder.encode(Signed(body, credential)))


def open_signed(body: bytes) -> Signed:
    """Take a signed body apart; FrameError if it is none."""
    try:
        return _signed.decode(body)
    except msgspec.DecodeError as error:
        raise FrameError("sends a body that is not signed") from error


def read_head(data: bytes | bytearray, limit: int) -> tuple[int, int]:
    """What the first OVERHEAD bytes of a frame say: its number, and the size of its body."""
    return int.from_bytes(data[_LENGTH:OVERHEAD], "big"), _size(data, limit)


def _size(data: bytes | bytearray, limit: int) -> int:
    size = int.from_bytes(data[:_LENGTH], "big") - _NUMBER
    if not 0 <= size <= limit:
        raise FrameError("sends a frame that is too long, or none")
    return size


class FrameReader:
    """Takes frames out of what has come. A frame with a body of more than `limit` bytes is a FrameError."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._data = bytearray()

    def __len__(self) -> int:
        """Bytes that have come and were not taken."""
        return len(self._data)

    @property
    def missing(self) -> int:
        """Bytes that can be read without reaching beyond the next frame."""
        have = len(self._data)
        if have < OVERHEAD:
            return OVERHEAD - have
        return max(0, _LENGTH + int.from_bytes(self._data[:_LENGTH], "big") - have)

    def feed(self, data: bytes) -> None:
        """These bytes have come."""
        self._data += data

    def take(self) -> tuple[int, bytes] | None:
        """The next frame's number and body; None while it is not complete."""
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
