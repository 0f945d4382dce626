"""The messages of the dispatcher and of those who ask it, as MessagePack."""

from __future__ import annotations

import msgspec

from qslurm.errors import InvalidInputError
from qslurm.protocol.messages import Message, Reply, Request

BODY_LIMIT = 8 * 1024 * 1024
"""Bytes of a message that anybody on the host may send: a batch script of 4 MB fits twice."""

RUNTIME_LIMIT = 256 * 1024 * 1024
"""Bytes of a message that our own quantum runtimes may send: raw data is large."""

_requests: msgspec.msgpack.Decoder[Request] = msgspec.msgpack.Decoder(Request)
_replies: msgspec.msgpack.Decoder[Reply] = msgspec.msgpack.Decoder(Reply)
_encoder = msgspec.msgpack.Encoder()


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
