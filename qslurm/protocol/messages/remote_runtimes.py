"""What a quantum runtime on another host and the dispatcher say to each other.

Nothing is said that may not be said twice: a connection can break at any moment, and what was under way on it may
have arrived or not. Each message travels as MessagePack, cut into frames of a size that a stranger may send, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import msgspec

from qslurm.c2.config.dispatcher_section import BackendConfig
from qslurm.errors import InvalidInputError
from qslurm.protocol.messages import Message, Number, Result, Run
from qslurm.runtimes.health import Health
from qslurm.runtimes.interface import BackendType

_T = TypeVar("_T")

PROTOCOL = 1
"""Grows with every change of the messages."""

MISSED_BEATS = 3
"""So many, and a runtime is given nothing more until it is heard of again."""

FRAME = 1024 * 1024
FRAME_LIMIT = FRAME + 1024
"""Bytes of a frame, before and after encryption."""

_LIMIT = 256 * 1024 * 1024  # bytes of a whole message


class Claim(msgspec.Struct, frozen=True):
    """An execution that a runtime was given: the order it came with, and what it is of."""

    order: Number
    task: Number
    seq: Number
    circuit_sha256: str
    shots: Number


# --- said by the runtime -----------------------------------------------------------------------------


class Enlist(Message, frozen=True):
    """A runtime is there, for the first time or again, with `claims` to what it executes or has executed.

    `instance` tells it from others that have the same key. It can execute `workers` circuits at a time. `attempt` is
    another one each time.
    """

    protocol: int
    backend: str
    instance: bytes
    workers: Number
    claims: list[Claim]
    attempt: Number = 0


class Beat(Message, frozen=True):
    """It is alive, and so is its target, or not."""

    instance: bytes
    health: Health
    backend_type: BackendType | None = None


class Answer(Message, frozen=True):
    """What came out of an execution. Repeated until the dispatcher has Taken it."""

    instance: bytes
    claim: Claim
    result: Result


class Leave(Message, frozen=True):
    """It has been stopped; what it was doing is not done."""

    instance: bytes


# --- said by the dispatcher --------------------------------------------------------------------------


class Welcome(Message, frozen=True):
    """It may work for this backend, on so many circuits at a time. Of its claims those in `drop` are not wanted.

    It is the answer to that `attempt` to enlist.
    """

    backend: BackendConfig
    workers: Number
    execution_limit_s: float
    beat_s: float
    drop: list[Number]
    attempt: Number = 0


class Declined(Message, frozen=True):
    """Not now; it may ask again."""

    reason: str


class Assign(Message, frozen=True):
    """Execute this; after `left_s` it is ended, because of `used_up`."""

    claim: Claim
    run: Run
    left_s: float = float("inf")
    used_up: str = ""


class Drop(Message, frozen=True):
    """Nobody wants the outcome of this order any more."""

    order: Number


class Taken(Message, frozen=True):
    """The outcome is stored, or not wanted: it can be forgotten."""

    order: Number


class Heard(Message, frozen=True):
    """The answer to a Beat. If `known` is false, it has to enlist."""

    known: bool


FromRuntime = Enlist | Beat | Answer | Leave
ToRuntime = Welcome | Declined | Assign | Drop | Taken | Heard

_from: msgspec.msgpack.Decoder[FromRuntime] = msgspec.msgpack.Decoder(FromRuntime)
_to: msgspec.msgpack.Decoder[ToRuntime] = msgspec.msgpack.Decoder(ToRuntime)
_encoder = msgspec.msgpack.Encoder()


def cut(message: Message) -> list[bytes]:
    """A message as the frames that it travels in."""
    data = memoryview(_encoder.encode(message))
    return [bytes(data[start : start + FRAME]) for start in range(0, len(data), FRAME)]


def from_runtime(frames: Sequence[bytes | memoryview]) -> FromRuntime:
    """What a runtime says; anything else is InvalidInputError."""
    return _put_together(frames, _from)


def to_runtime(frames: Sequence[bytes | memoryview]) -> ToRuntime:
    """What the dispatcher says; anything else is InvalidInputError."""
    return _put_together(frames, _to)


def _put_together(frames: Sequence[bytes | memoryview], decoder: msgspec.msgpack.Decoder[_T]) -> _T:
    if sum(len(frame) for frame in frames) > _LIMIT:
        raise InvalidInputError("The message is too large.")
    try:
        return decoder.decode(b"".join(frames))
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise InvalidInputError(
            f"This is no message between a runtime and the dispatcher: {error}."
        ) from error
