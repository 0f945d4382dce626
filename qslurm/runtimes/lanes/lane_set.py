"""The lanes that a quantum runtime serves during one lease: it waits for any of them, and gives each its turn."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from qslurm.protocol.messages import Lease
from qslurm.runtimes.lanes.shared_memory import Lane, Spinner, poll_of, sleep
from qslurm.runtimes.lanes.turns import Turns


class Lanes:
    """`lanes` are in the order of the lease's seats. Closes them when it is closed."""

    def __init__(self, lanes: Sequence[Lane], lease: Lease) -> None:
        self._all = lanes
        self._open = dict(enumerate(lanes))
        self._turns = Turns(lease)
        self._poll = poll_of(lanes)
        self._spinner = Spinner()
        for seat, lane in enumerate(lanes):
            lane.say_crowd(len(lanes))
            if lane.closed:
                self.leave(seat)

    def __len__(self) -> int:
        """How many seats have not left."""
        return len(self._open)

    def close(self) -> None:
        """Let go of the lanes, as they are."""
        for lane in self._all:
            lane.close()

    def seats(self) -> list[int]:
        """The seats that have not left."""
        return list(self._open)

    def next(self, timeout_s: float, news: Callable[[], bool]) -> tuple[int, bytes] | None:
        """The seat whose turn it is, and its request; None if nobody asks in time, or before there is `news`."""
        self._note()
        seat = self._turns.take()
        if seat is None:
            self._wait(timeout_s, news)
            self._note()
            seat = self._turns.take()
        return None if seat is None else (seat, self._open[seat].take())

    def answer(self, seat: int, data: bytes, seconds: float) -> None:
        """Answer what was asked last by a seat; it took so long."""
        self._turns.charge(seat, seconds)
        self._open[seat].answer(data)

    def leave(self, seat: int) -> None:
        """A seat gets no turn any more, and its client is told so."""
        lane = self._open.pop(seat, None)
        if lane is not None:
            self._turns.leave(seat)
            self._poll.unregister(lane.wire)
            lane.shut()

    def _note(self) -> None:
        """Note who has asked since the last time: those who ask at the same moment, in the order of seats."""
        turns = self._turns
        for seat, lane in self._open.items():
            if lane.asked and not turns.waits(seat):
                turns.ask(seat, time.monotonic())

    def _wait(self, timeout_s: float, news: Callable[[], bool]) -> None:
        lanes = list(self._open.values())

        def ready() -> bool:
            for lane in lanes:  # in a loop: `any` with a generator takes twice as long
                if lane.asked:
                    return True
            return news()

        until = time.perf_counter() + timeout_s
        if not self._spinner.spin(ready, len(lanes), timeout_s):
            sleep(ready, until, lanes, self._poll)
        for seat, lane in list(self._open.items()):
            if lane.hung_up:
                self.leave(seat)
