"""What a quantum runtime does while a job has it on lease: execute what comes over the lane, writing it down first."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from qslurm.dispatcher.messages import Execute, Executed, Lease
from qslurm.errors import QslurmError
from qslurm.runtimes.health import TryLaterError
from qslurm.runtimes.interface import Outcome
from qslurm.runtimes.lane import Lane
from qslurm.runtimes.logbook import Logbook, Record

LANE_SHOTS = 16384
"""Shots of an execution by lane: its counts, all different, still fit a record."""

WATCH_S = 1.0

Perform = Callable[[Execute], Outcome]

_requests: msgspec.msgpack.Decoder[Execute] = msgspec.msgpack.Decoder(Execute)
_encoder = msgspec.msgpack.Encoder()


def fits_lane(message: Execute) -> bool:
    """Whether an execution may go by lane; others go by the dispatcher, as those of jobs without a lease do."""
    return message.shots <= LANE_SHOTS and not message.raw_data


def serve_lane(
    lane: Lane,
    logbook: Logbook,
    lease: Lease,
    perform: Perform,
    *,
    goes_on: Callable[[], bool],
    watch_s: float = WATCH_S,
) -> None:
    """Execute until the dispatcher wants the lease back, or `goes_on` says no: it is asked whenever there is nothing to
    do for `watch_s`. A circuit that the target gives back ends the lease unanswered, and goes by the dispatcher.
    """
    try:
        while not logbook.stopped and logbook.has_room:
            data = lane.wait_request(watch_s, over=lambda: logbook.stopped)
            if data is not None:
                lane.answer(_encoder.encode(_execute(data, logbook, lease, perform)))
            elif not goes_on():
                return
    except TryLaterError as error:
        logbook.give_back(begun=error.begun)
    finally:
        lane.shut()


def _execute(data: bytes, logbook: Logbook, lease: Lease, perform: Perform) -> Executed:
    try:
        message = _requests.decode(data)
    except (msgspec.DecodeError, RecursionError) as error:
        return _failed(0, 0, f"This is no circuit: {error}.", "invalid_input")
    if message.task != lease.task or not fits_lane(message) or not 1 <= message.shots <= lease.max_shots:
        reason = (
            f"{message.shots} shots were asked for; backend {lease.backend} takes 1 to {lease.max_shots}."
        )
        return _failed(message.seq, message.shots, reason, "invalid_input")
    digest = message.digest()
    logbook.begin(message.seq, digest)
    try:
        outcome = perform(message)
    except TryLaterError:
        raise
    except QslurmError as error:
        executed = _failed(message.seq, message.shots, str(error), error.kind)
    else:
        executed = Executed(
            seq=message.seq,
            shots_requested=message.shots,
            shots_done=outcome.shots_done,
            counts=outcome.counts,
            seconds=outcome.seconds,
        )
    logbook.append(Record(lease.task, digest, executed))
    return executed


def _failed(seq: int, shots: int, reason: str, kind: str) -> Executed:
    return Executed(
        seq=seq, shots_requested=shots, shots_done=0, counts={}, seconds=0.0, error=reason[:10_000], kind=kind
    )
