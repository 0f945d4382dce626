"""A quantum runtime's work during a lease: executes requests from lanes, and records each in the logbook first."""

from __future__ import annotations

import socket
from collections.abc import Callable

import msgspec

from qslurm.errors import QslurmError
from qslurm.protocol.messages import Execute, Executed, Lease
from qslurm.runtimes.health import TryLaterError
from qslurm.runtimes.interface import Outcome
from qslurm.runtimes.lanes.lane_set import LaneSet
from qslurm.runtimes.lanes.logbook import Logbook, LogbookRecord
from qslurm.runtimes.lanes.shared_memory import SIZE, Lane
from qslurm.system.child_process import allow_memory

LANE_SHOTS = 16384
"""Shots of an execution by lane: even if all its counts differ, they fit a record."""

WATCH_S = 1.0

Perform = Callable[[Execute], Outcome]

_requests: msgspec.msgpack.Decoder[Execute] = msgspec.msgpack.Decoder(Execute)
_encoder = msgspec.msgpack.Encoder()


def fits_lane(message: Execute) -> bool:
    """Whether an execution may go by lane; others go by the dispatcher."""
    return message.shots <= LANE_SHOTS and not message.raw_data


def serve_lease(
    lease: Lease,
    wire: socket.socket,
    logbook: Logbook,
    perform: Perform,
    *,
    may_continue: Callable[[], bool],
    watch_s: float,
) -> bool:
    """Serve the lanes that arrive at `wire` with a lease; see `serve_lanes`."""
    room = len(lease.members) * SIZE
    allow_memory(room)
    _, numbers, _, _ = socket.recv_fds(wire, 1, 2 * len(lease.members))
    lanes = LaneSet([Lane("runtime", *pair) for pair in zip(numbers[::2], numbers[1::2], strict=True)], lease)
    try:
        return serve_lanes(lanes, logbook, lease, perform, may_continue=may_continue, watch_s=watch_s)
    finally:
        lanes.close()
        allow_memory(-room)


def serve_lanes(
    lanes: LaneSet,
    logbook: Logbook,
    lease: Lease,
    perform: Perform,
    *,
    may_continue: Callable[[], bool],
    watch_s: float = WATCH_S,
) -> bool:
    """Execute until the dispatcher asks for the lease back, or `may_continue` returns False; it is called after
    `watch_s` without a request. A circuit that the target gives back ends the lease unanswered, and goes by the
    dispatcher.

    Returns whether the lanes may be served again; otherwise they are closed.
    """
    kept = False
    stop_word = 0  # the last one handled

    def is_interrupted() -> bool:
        return logbook.stop_word != stop_word

    try:
        while len(lanes):
            if is_interrupted():
                stop_word = logbook.stop_word
                for member in lanes.members():
                    if logbook.withdrawn(member):
                        lanes.remove(member)
            if logbook.stopped or not logbook.has_room:
                kept = True
                return kept
            request = lanes.next(watch_s, is_interrupted)
            if request is not None:
                member, data = request
                executed = _execute(data, logbook, lease, lease.members[member].task, perform)
                lanes.answer(member, _encoder.encode(executed), executed.seconds)
            elif not may_continue():
                return kept
    except TryLaterError as error:
        logbook.give_back(begun=error.begun)
    finally:
        if not kept:
            for member in lanes.members():
                lanes.remove(member)
    return kept


def _execute(data: bytes, logbook: Logbook, lease: Lease, task: int, perform: Perform) -> Executed:
    try:
        message = _requests.decode(data)
    except (msgspec.DecodeError, RecursionError) as error:
        return _failed(0, 0, f"Invalid circuit: {error}.", "invalid_input")
    if message.task != task or not fits_lane(message) or not 1 <= message.shots <= lease.max_shots:
        reason = (
            f"Invalid number of shots: {message.shots}. Backend {lease.backend} takes 1 to {lease.max_shots}."
        )
        return _failed(message.seq, message.shots, reason, "invalid_input")
    digest = message.digest()
    logbook.begin(task, message.seq, digest)
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
    logbook.append(LogbookRecord(task, digest, executed))
    return executed


def _failed(seq: int, shots: int, reason: str, kind: str) -> Executed:
    return Executed(
        seq=seq, shots_requested=shots, shots_done=0, counts={}, seconds=0.0, error=reason[:10_000], kind=kind
    )
