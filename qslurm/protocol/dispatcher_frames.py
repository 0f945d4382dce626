"""Encoding of the dispatcher's messages, as MessagePack."""

from __future__ import annotations

import msgspec

from qslurm.errors import InvalidInputError
from qslurm.protocol.messages import Message, Reply, Request

BODY_LIMIT = 8 * 1024 * 1024
"""The largest request to the Unix socket, in bytes; Slurm's limit for a batch script is 4 MB."""

RUNTIME_LIMIT = 256 * 1024 * 1024
"""The largest message of a quantum runtime, in bytes: raw data is large."""

_requests: msgspec.msgpack.Decoder[Request] = msgspec.msgpack.Decoder(Request)
_replies: msgspec.msgpack.Decoder[Reply] = msgspec.msgpack.Decoder(Reply)
_encoder = msgspec.msgpack.Encoder()


def encode(message: Message) -> bytes:
    """An encoded message."""
    return _encoder.encode(message)


def decode_request(body: bytes) -> Request:
    """Decode a request; InvalidInputError if it is invalid."""
    try:
        return _requests.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise InvalidInputError(f"Invalid request to the dispatcher: {error}.") from error


def decode_reply(body: bytes) -> Reply:
    """Decode a reply of the dispatcher; InvalidInputError if it is invalid."""
    try:
        return _replies.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise InvalidInputError(
            f"Invalid reply from the dispatcher: {error}.",
            hint="Check that it runs the same version of qslurm.",
        ) from error
