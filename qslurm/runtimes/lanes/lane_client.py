"""A job step's end of a lane, which the dispatcher sends over the step's connection beside the reply to a circuit.

It is optional. Without a lane, or with a closed one, circuits go by the dispatcher; a request by lane without
an answer is repeated there, by its number, and is not executed twice.
"""

from __future__ import annotations

import os

import msgspec

from qslurm.protocol.dispatcher_client import LANE_DESCRIPTORS, DispatcherClient
from qslurm.protocol.messages import Execute, Executed
from qslurm.runtimes.lanes.lane_service import fits_lane
from qslurm.runtimes.lanes.shared_memory import Lane

_WATCH_S = 1.0

_encoder = msgspec.msgpack.Encoder()
_answers: msgspec.msgpack.Decoder[Executed] = msgspec.msgpack.Decoder(Executed)


class LaneClient:
    """The current lane of one task, if any; `dispatcher` is its step's client."""

    def __init__(self, dispatcher: DispatcherClient) -> None:
        self._dispatcher = dispatcher
        self._lane: Lane | None = None

    @property
    def has_lane(self) -> bool:
        """Whether the last circuit went by lane."""
        return self._lane is not None

    def close(self) -> None:
        """Close the lane."""
        if self._lane is not None:
            self._lane.close()
            self._lane = None

    def execute(self, message: Execute) -> Executed | None:
        """Execute by lane; None if the circuit must go by the dispatcher, which finds out whether it was executed."""
        if not fits_lane(message):
            return None
        data = _encoder.encode(message)
        while True:
            lane = self._lane or self._received()
            if lane is None:
                return None
            if lane.request(data):
                return self._wait(lane, message.seq)
            self.close()  # the lane was closed; another may have come since

    def _wait(self, lane: Lane, seq: int) -> Executed | None:
        while True:
            data = lane.wait_answer(_WATCH_S)
            if data is not None:
                return self._decoded(data, seq)
            if lane.closed or not self._dispatcher.is_connected:
                self.close()
                return None

    def _decoded(self, data: bytes, seq: int) -> Executed | None:
        try:
            executed = _answers.decode(data)
        except msgspec.DecodeError:
            executed = None
        if executed is None or executed.seq != seq:
            self.close()
            return None
        return executed

    def _received(self) -> Lane | None:
        """The lane that came with the dispatcher's last replies."""
        descriptors = self._dispatcher.take_descriptors()
        if len(descriptors) != LANE_DESCRIPTORS:
            for descriptor in descriptors:
                os.close(descriptor)
            return None
        self._lane = Lane("client", *descriptors)
        return self._lane
