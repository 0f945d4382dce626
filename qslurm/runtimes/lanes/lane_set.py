"""The lanes that a quantum runtime serves during one lease: it waits for any of them, and gives each its turn."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from qslurm.protocol.messages import Lease
from qslurm.runtimes.lanes.shared_memory import Lane, Spinner, poll_of, sleep
from qslurm.runtimes.lanes.turns import Turns


class LaneSet:
    """`lanes` are in the order of the lease's seats. Closes them when it is closed."""

    def __init__(self, lanes: Sequence[Lane], lease: Lease) -> None:
        self._all = lanes
        self._open = dict(enumerate(lanes))
        self._turns = Turns(lease)
        self._poll = poll_of(lanes)
        self._spinner = Spinner()
        for member, lane in enumerate(lanes):
            lane.set_lane_count(len(lanes))
            if lane.closed:
                self.remove(member)

    def __len__(self) -> int:
        """How many seats have not left."""
        return len(self._open)

    def close(self) -> None:
        """Let go of the lanes, as they are."""
        for lane in self._all:
            lane.close()

    def members(self) -> list[int]:
        """The seats that have not left."""
        return list(self._open)

    def next(self, timeout_s: float, is_interrupted: Callable[[], bool]) -> tuple[int, bytes] | None:
        """The member whose turn it is, and its request; None if no request arrives within `timeout_s`, or once
        `is_interrupted` returns true.
        """
        self._note_requests()
        member = self._turns.take()
        if member is None:
            self._wait(timeout_s, is_interrupted)
            self._note_requests()
            member = self._turns.take()
        return None if member is None else (member, self._open[member].take())

    def answer(self, member: int, data: bytes, seconds: float) -> None:
        """Answer what was asked last by a seat; it took so long."""
        self._turns.charge(member, seconds)
        self._open[member].answer(data)

    def remove(self, member: int) -> None:
        """A seat gets no turn any more, and its client is told so."""
        lane = self._open.pop(member, None)
        if lane is not None:
            self._turns.remove(member)
            self._poll.unregister(lane.wire)
            lane.mark_closed()

    def _note_requests(self) -> None:
        """Note who has asked since the last time: those who ask at the same moment, in the order of seats."""
        turns = self._turns
        for member, lane in self._open.items():
            if lane.has_request and not turns.waits(member):
                turns.ask(member, time.monotonic())

    def _wait(self, timeout_s: float, is_interrupted: Callable[[], bool]) -> None:
        lanes = list(self._open.values())

        def ready() -> bool:
            for lane in lanes:  # in a loop: `any` with a generator takes twice as long
                if lane.has_request:
                    return True
            return is_interrupted()

        until = time.perf_counter() + timeout_s
        if not self._spinner.spin(ready, len(lanes), timeout_s):
            sleep(ready, until, lanes, self._poll)
        for member, lane in list(self._open.items()):
            if lane.is_closed_by_peer:
                self.remove(member)
