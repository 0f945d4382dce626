"""Whose turn is it among jobs that share a lease? What policy.choose would say, of what has been asked for so far."""

from __future__ import annotations

from qslurm.c2.scheduling.fair_share import MINIMUM_S
from qslurm.c2.scheduling.policy import POLICIES, Rank, Waiting
from qslurm.protocol.messages import Lease


class Turns:
    """Seats are numbered as in the lease. Times are monotonic seconds."""

    def __init__(self, lease: Lease) -> None:
        self._policy = POLICIES[lease.policy]
        self._ageing_s = lease.ageing_s
        self._seats = lease.seats
        self._used = {seat.center: seat.used for seat in lease.seats}
        self._weights = {seat.center: seat.weight for seat in lease.seats}
        self._ranks: dict[int, Rank] = {}
        self._asked = 0

    def ask(self, seat: int, now: float) -> None:
        """A seat that waits for nothing yet asks for an execution."""
        of, self._asked = self._seats[seat], self._asked + 1
        waiting = Waiting(
            of.task, 0, self._asked, of.center, of.task, hybrid=True, arrived=now, coupling=of.coupling
        )
        self._ranks[seat] = self._policy.rank(waiting, self._ageing_s)

    def waits(self, seat: int) -> bool:
        """Whether a seat has asked, and has not had its turn."""
        return seat in self._ranks

    def take(self) -> int | None:
        """The seat whose turn it is; it does not wait any more. None if nobody has asked."""
        ranks = self._ranks
        if not ranks:
            return None
        if self._policy.by_center and len(ranks) > 1:
            used, seats = self._used, self._seats
            seat = min(ranks, key=lambda seat: (used[seats[seat].center], ranks[seat]))
        else:
            seat = min(ranks, key=ranks.__getitem__)
        del ranks[seat]
        return seat

    def charge(self, seat: int, seconds: float) -> None:
        """A seat's execution has taken so long."""
        center = self._seats[seat].center
        self._used[center] += max(seconds, MINIMUM_S) / self._weights[center]

    def leave(self, seat: int) -> None:
        """A seat gets no turn any more."""
        self._ranks.pop(seat, None)
