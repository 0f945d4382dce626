"""What travels: an address, an empty frame, one message as MessagePack, and one frame of credential.

ZeroMQ's REQ sockets make the address themselves; the dispatcher gives it back unread.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from qslurm.errors import InvalidInputError
from qslurm.protocol.messages import Message, Reply, Request

BODY_LIMIT = 8 * 1024 * 1024
"""Bytes of a frame that anybody on the host may send: a batch script of 4 MB fits twice."""

RUNTIME_LIMIT = 256 * 1024 * 1024
"""Bytes of a frame that our own quantum runtimes may send: raw data is large."""

_CREDENTIAL_LIMIT = 4096
_ADDRESS_LIMIT = 3  # frames: the connection, and what a REQ socket adds to match answers to questions
_FRAME_LIMIT = 512  # bytes in each of them

MESSAGE_FRAMES = _ADDRESS_LIMIT - 1 + 3
"""Frames of a message, without the name of its connection."""

MESSAGE_SLACK = _CREDENTIAL_LIMIT + (_ADDRESS_LIMIT - 1) * _FRAME_LIMIT
"""Bytes of a message besides its body."""

_requests: msgspec.msgpack.Decoder[Request] = msgspec.msgpack.Decoder(Request)
_replies: msgspec.msgpack.Decoder[Reply] = msgspec.msgpack.Decoder(Reply)
_encoder = msgspec.msgpack.Encoder()

Address = tuple[bytes, ...]


@dataclass(frozen=True)
class RawRequest:
    """What came in, opened but unread."""

    address: Address
    body: bytes
    credential: bytes


def parse_request(frames: Sequence[bytes]) -> RawRequest | None:
    """Take the frames apart; None for what is not a request at all."""
    if len(frames) < 4 or len(frames) > _ADDRESS_LIMIT + 3 or frames[-3] != b"":
        return None
    address = tuple(frames[:-3])
    if any(len(frame) > _FRAME_LIMIT for frame in address) or len(frames[-1]) > _CREDENTIAL_LIMIT:
        return None
    return RawRequest(address, frames[-2], frames[-1])


def encode(message: Message) -> bytes:
    """A message as it travels."""
    return _encoder.encode(message)


def decode_request(body: bytes) -> Request:
    """What somebody asks of the dispatcher; anything else is InvalidInputError."""
    try:
        return _requests.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise InvalidInputError(f"This is no message to the dispatcher: {error}.") from error


def decode_reply(body: bytes) -> Reply:
    """What the dispatcher answers; anything else is InvalidInputError."""
    try:
        return _replies.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise InvalidInputError(
            f"The dispatcher's answer can't be understood: {error}.",
            hint="Is it of the same version of qslurm?",
        ) from error
