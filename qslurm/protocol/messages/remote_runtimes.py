"""Messages between quantum runtimes on other hosts and the dispatcher.

Every message may be repeated, because a connection can break at any moment. Messages are MessagePack, split into ZeroMQ
frames of at most FRAME_BYTES.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import msgspec

from qslurm.c2.config.dispatcher_section import BackendConfig
from qslurm.errors import InvalidInputError
from qslurm.protocol.messages import Message, Number, OrderResult, Run
from qslurm.runtimes.health import Health
from qslurm.runtimes.interface import BackendType

_T = TypeVar("_T")

PROTOCOL = 2
"""Increase it with every change of the messages."""

MISSED_HEARTBEATS = 3
"""After so many, a runtime gets no work until its next heartbeat."""

FRAME_BYTES = 1024 * 1024
FRAME_LIMIT = FRAME_BYTES + 1024
"""The largest frame in bytes, before and after encryption."""

_LIMIT = 256 * 1024 * 1024  # bytes of a message


class Claim(msgspec.Struct, frozen=True):
    """An execution that was assigned to a runtime, with the number of the order."""

    order: Number
    task: Number
    seq: Number
    circuit_sha256: str
    shots: Number


# --- from the runtime --------------------------------------------------------------------------------


class Enlist(Message, frozen=True):
    """A runtime has connected or reconnected. `claims` are the executions it has begun or completed.

    `instance` distinguishes it from other runtimes with the same key. It can execute `workers` circuits at a time.
    `attempt` numbers these requests.
    """

    protocol: int
    backend: str
    instance: bytes
    workers: Number
    claims: list[Claim]
    attempt: Number = 0


class RuntimeHeartbeat(Message, frozen=True):
    """The runtime is alive; `health` is its target's."""

    instance: bytes
    health: Health
    backend_type: BackendType | None = None


class RemoteResult(Message, frozen=True):
    """The result of an execution, repeated until it is acknowledged."""

    instance: bytes
    claim: Claim
    result: OrderResult


class Leave(Message, frozen=True):
    """The runtime was stopped. Its executions have not completed."""

    instance: bytes


# --- from the dispatcher -----------------------------------------------------------------------------


class Enlisted(Message, frozen=True):
    """The reply to Enlist of this `attempt`: the runtime gets work, at most `workers` circuits at a time.

    It must drop the orders in `drop`.
    """

    backend: BackendConfig
    workers: Number
    execution_limit_s: float
    beat_s: float
    drop: list[Number]
    attempt: Number = 0


class Declined(Message, frozen=True):
    """The reply to Enlist: the runtime gets no work. It may try again."""

    reason: str


class Assign(Message, frozen=True):
    """Execute a circuit. After `left_s` the execution is ended, with `used_up` as the reason."""

    claim: Claim
    run: Run
    left_s: float = float("inf")
    used_up: str = ""


class DropOrder(Message, frozen=True):
    """The result of this order is not needed any more."""

    order: Number


class ResultAcknowledged(Message, frozen=True):
    """The result is stored or not needed: the runtime can discard it."""

    order: Number


class HeartbeatReply(Message, frozen=True):
    """The reply to a RuntimeHeartbeat. If `known` is false, the runtime has to enlist."""

    known: bool


FromRuntime = Enlist | RuntimeHeartbeat | RemoteResult | Leave
ToRuntime = Enlisted | Declined | Assign | DropOrder | ResultAcknowledged | HeartbeatReply

_from_runtime: msgspec.msgpack.Decoder[FromRuntime] = msgspec.msgpack.Decoder(FromRuntime)
_to_runtime: msgspec.msgpack.Decoder[ToRuntime] = msgspec.msgpack.Decoder(ToRuntime)
_encoder = msgspec.msgpack.Encoder()


def encode_frames(message: Message) -> list[bytes]:
    """A message as ZeroMQ frames."""
    data = memoryview(_encoder.encode(message))
    return [bytes(data[start : start + FRAME_BYTES]) for start in range(0, len(data), FRAME_BYTES)]


def decode_from_runtime(frames: Sequence[bytes | memoryview]) -> FromRuntime:
    """Decode a runtime's message; InvalidInputError if it is invalid."""
    return _decode(frames, _from_runtime)


def decode_to_runtime(frames: Sequence[bytes | memoryview]) -> ToRuntime:
    """Decode a message of the dispatcher; InvalidInputError if it is invalid."""
    return _decode(frames, _to_runtime)


def _decode(frames: Sequence[bytes | memoryview], decoder: msgspec.msgpack.Decoder[_T]) -> _T:
    if sum(len(frame) for frame in frames) > _LIMIT:
        raise InvalidInputError("The message is too large.")
    try:
        return decoder.decode(b"".join(frames))
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise InvalidInputError(f"Invalid message between a runtime and the dispatcher: {error}.") from error
