"""A classical runtime's end of a lane: it waits at the dispatcher's door until it is given one, and uses it.

Nothing depends on it. Without a lane, or with one that was closed, circuits go by the dispatcher; one that was put on a
lane and not answered is asked for there again, by its number, and is not executed twice.
"""

from __future__ import annotations

import os
import select
import socket
import time

import msgspec

from qslurm.errors import QslurmError
from qslurm.protocol.dispatcher_frames import decode_reply
from qslurm.protocol.messages import Conclude, Execute, Executed, Message
from qslurm.runtimes.lanes.service import fits_lane
from qslurm.runtimes.lanes.shared_memory import Lane
from qslurm.wire.frames import OVERHEAD, FrameReader, frame
from qslurm.wire.unix_socket import connect_unix_socket

DOOR_LIMIT = 64 * 1024
"""Bytes of what is said at the door; a larger final result goes by the dispatcher's other socket."""

REQUEST = 1
"""The number of the frames that are said there, and of their answers; a lane comes without being asked for."""

_DESCRIPTORS = 2
_LANE_FRAME = OVERHEAD + 1  # bytes
_WATCH_S = 1.0

_encoder = msgspec.msgpack.Encoder()
_answers: msgspec.msgpack.Decoder[Executed] = msgspec.msgpack.Decoder(Executed)


class Hello(msgspec.Struct, frozen=True, array_like=True):
    """What is said at the door: which task wants a lane, and the secret of its session."""

    task: int
    secret: bytes


def door_of(dispatcher_socket: str) -> str:
    """Where a dispatcher hands out lanes: beside its socket."""
    return f"{dispatcher_socket}.lanes"


def knock(dispatcher_socket: str) -> socket.socket | None:
    """A connection to the dispatcher's door; None if it has none: then there are no lanes."""
    try:
        # others may keep it from its turn, but not for long: it can do without a lane
        return connect_unix_socket(door_of(dispatcher_socket), 1.0)
    except OSError:
        return None


class LaneClient:
    """The lane of one task, if it has one at the moment. Closes `door` when it is closed."""

    def __init__(self, door: socket.socket, task: int, secret: bytes) -> None:
        self._door: socket.socket | None = door
        self._lane: Lane | None = None
        door.setblocking(False)
        try:
            door.send(frame(REQUEST, _encoder.encode(Hello(task, secret))))
        except OSError:
            self.close()

    def close(self) -> None:
        """Give the lane back, and leave the door."""
        self._drop()
        if self._door is not None:
            self._door.close()
            self._door = None

    @property
    def is_open(self) -> bool:
        """Whether there is anybody at the door."""
        return self._door is not None

    def execute(self, message: Execute) -> Executed | None:
        """Execute by lane; None if it must go by the dispatcher, where nobody knows yet whether it was executed."""
        if not fits_lane(message):
            return None
        data = _encoder.encode(message)
        while True:
            lane = self._lane or self._given()
            if lane is None:
                return None
            if lane.request(data):
                return self._wait(lane, message.seq)
            self._drop()  # it was taken back; perhaps another has been handed out since

    def conclude(self, message: Conclude, timeout_s: float) -> Message | None:
        """Hand in a final result at the door, the shortest way there is; None if it has to go another."""
        data = _encoder.encode(message)
        if self._door is None or len(data) > DOOR_LIMIT:
            return None
        try:
            return self._asked(self._door, frame(REQUEST, data), time.monotonic() + timeout_s)
        except (OSError, QslurmError):
            self.close()  # an answer may come yet
            return None

    def _asked(self, door: socket.socket, data: bytes, until: float) -> Message:
        waiting = select.poll()
        waiting.register(door, select.POLLIN)
        if door.send(data) < len(data):
            raise BlockingIOError("it is not taken at once")
        answers = FrameReader(DOOR_LIMIT)
        while waiting.poll(max(0.0, until - time.monotonic()) * 1000):
            said, descriptors, _, _ = socket.recv_fds(door, DOOR_LIMIT, _DESCRIPTORS)
            if not said:
                raise ConnectionResetError("connection closed")
            for descriptor in descriptors:
                os.close(descriptor)  # a lane that comes too late
            answers.feed(said)
            while (taken := answers.take()) is not None:
                if taken[0] == REQUEST:
                    return decode_reply(taken[1])
        raise TimeoutError("it does not answer")

    def _wait(self, lane: Lane, seq: int) -> Executed | None:
        while True:
            data = lane.wait_answer(_WATCH_S)
            if data is not None:
                return self._understood(data, seq)
            if lane.closed or not self._somebody_is_there():
                self._drop()
                return None

    def _understood(self, data: bytes, seq: int) -> Executed | None:
        try:
            executed = _answers.decode(data)
        except msgspec.DecodeError:
            executed = None
        if executed is None or executed.seq != seq:
            self._drop()
            return None
        return executed

    def _given(self) -> Lane | None:
        """Look whether a lane has been handed out at the door."""
        if self._door is None:
            return None
        try:
            data, descriptors, _, _ = socket.recv_fds(self._door, _LANE_FRAME, _DESCRIPTORS)
        except BlockingIOError:
            return None
        except OSError:
            data, descriptors = b"", []
        if not data:
            self.close()  # the dispatcher is gone
        if len(descriptors) != _DESCRIPTORS:
            for descriptor in descriptors:
                os.close(descriptor)
            return None
        self._lane = Lane("client", *descriptors)
        return self._lane

    def _somebody_is_there(self) -> bool:
        if self._door is None:
            return False
        try:
            return self._door.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) != b""
        except BlockingIOError:
            return True
        except OSError:
            return False

    def _drop(self) -> None:
        if self._lane is not None:
            self._lane.close()
            self._lane = None
