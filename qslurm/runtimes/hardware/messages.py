"""The messages of a hardware server: JSON requests and replies on one port, its state published on another.

Protocol version 3, as Quantum Inspire publishes it for builders of hardware. A reply must name the session
(and, for a circuit, the job) of the request.
"""

from __future__ import annotations

from typing import Any, Literal, TypeVar

import msgspec

from qslurm.errors import QslurmError
from qslurm.runtimes.machine_result import InvalidReplyError, MachineResult

PROTOCOL_VERSION = 3
REPLY_LIMIT = 256 * 1024 * 1024
"""Bytes of one reply."""
STATUS_LIMIT = 64 * 1024
"""Bytes of one published status."""

_ERROR_LIMIT = 500  # characters of a server's error message that are passed on

Command = Literal["initialize", "execute", "terminate", "get_static", "get_dynamic"]
PublishedState = Literal["OFFLINE", "CALIBRATING", "EXECUTING", "IDLE"]


class HardwareRefusedError(QslurmError):
    """The hardware server refuses a command; the message is its own."""


class ExecutePayload(msgspec.Struct, frozen=True):
    """The payload of `execute`."""

    job_id: int
    circuit: str
    number_of_shots: int
    include_raw_data: bool = False


class Request(msgspec.Struct, frozen=True, omit_defaults=True):
    """A command with its session."""

    session_id: str
    command: Command
    payload: ExecutePayload | None = None


class _Reply(msgspec.Struct, frozen=True):
    session_id: str
    status: Literal["success", "failure"]
    payload: msgspec.Raw = msgspec.Raw(b"null")


class _Failure(msgspec.Struct, frozen=True):
    error_msg: str = ""


class Static(msgspec.Struct, frozen=True):
    """The facts about the hardware that do not change; `pgs` are the names of its gates."""

    protocol_version: int
    nqubits: int
    name: str = ""
    topology: list[tuple[int, int]] = []
    pgs: list[str] = []
    default_compiler_config: dict[str, Any] = {}
    starttime: Any = None
    supports_raw_data: bool = False


class _State(msgspec.Struct, frozen=True):
    state: str
    timestamp: float | str | None = None


class _Publication(msgspec.Struct, frozen=True):
    command: Literal["publish_state"]
    payload: _State


T = TypeVar("T")

_encoder = msgspec.json.Encoder()
_replies = msgspec.json.Decoder(_Reply)
_publications = msgspec.json.Decoder(_Publication)


def encode(request: Request) -> bytes:
    """A request as JSON."""
    return _encoder.encode(request)


def decode_reply(text: bytes, request: Request, kind: type[T]) -> T:
    """The payload of the reply to a request, as `kind`.

    Raises InvalidReplyError for anything that is not a reply to it, HardwareRefusedError for a failure.
    """
    try:
        reply = _replies.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidReplyError(f"invalid reply to {request.command}: {error}") from error
    if reply.session_id != request.session_id:
        raise InvalidReplyError(f"its reply to {request.command} belongs to another session")
    if reply.status == "failure":
        raise HardwareRefusedError(_error_text(reply.payload))
    try:
        payload = msgspec.json.decode(reply.payload, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidReplyError(f"invalid payload in the reply to {request.command}: {error}") from error
    if isinstance(payload, MachineResult) and request.payload and payload.job_id != request.payload.job_id:
        raise InvalidReplyError(
            f"it returned the result of job {payload.job_id} instead of {request.payload.job_id}"
        )
    return payload


def decode_publication(text: bytes) -> PublishedState | None:
    """The published state; None if the message has none."""
    try:
        state: PublishedState = msgspec.convert(
            _publications.decode(text).payload.state.upper(), PublishedState
        )
        return state
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _error_text(payload: msgspec.Raw) -> str:
    try:
        text = " ".join(msgspec.json.decode(payload, type=_Failure).error_msg.split())
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        text = ""
    text = "".join(character for character in text[:_ERROR_LIMIT] if character.isprintable())
    return text.rstrip(".") or "no reason given"
