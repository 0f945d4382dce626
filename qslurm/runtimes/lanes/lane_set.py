"""The lanes that a quantum runtime serves during one lease: waits for a request on any of them, and serves them
in turn.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from qslurm.protocol.messages import Lease
from qslurm.runtimes.lanes.shared_memory import Lane, Spinner, poll_of, sleep
from qslurm.runtimes.lanes.turns import Turns


class LaneSet:
    """`lanes` are in the order of the lease's members; `close` closes them."""

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
        """The number of members that remain."""
        return len(self._open)

    def close(self) -> None:
        """Close the lanes."""
        for lane in self._all:
            lane.close()

    def members(self) -> list[int]:
        """The members that remain."""
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
        """Answer the last request of a member; it took `seconds`."""
        self._turns.charge(member, seconds)
        self._open[member].answer(data)

    def remove(self, member: int) -> None:
        """Serve a member no more, and mark its lane closed for its client."""
        lane = self._open.pop(member, None)
        if lane is not None:
            self._turns.remove(member)
            self._poll.unregister(lane.wire)
            lane.mark_closed()

    def _note_requests(self) -> None:
        """Note new requests; simultaneous ones in the order of members."""
        turns = self._turns
        for member, lane in self._open.items():
            if lane.has_request and not turns.waits(member):
                turns.ask(member, time.monotonic())

    def _wait(self, timeout_s: float, is_interrupted: Callable[[], bool]) -> None:
        lanes = list(self._open.values())

        def ready() -> bool:
            for lane in lanes:  # a loop: `any` with a generator takes twice as long
                if lane.has_request:
                    return True
            return is_interrupted()

        until = time.perf_counter() + timeout_s
        if not self._spinner.spin(ready, len(lanes), timeout_s):
            sleep(ready, until, lanes, self._poll)
        for member, lane in list(self._open.items()):
            if lane.is_closed_by_peer:
                self.remove(member)
