"""The order in which the members of a lease are served: that of the backend's scheduling policy, over the
requests made so far.
"""

from __future__ import annotations

from qslurm.c2.scheduling.fair_share import MINIMUM_S
from qslurm.c2.scheduling.policy import POLICIES, QueuedExecution, Rank
from qslurm.protocol.messages import Lease


class Turns:
    """Members are numbered as in the lease. Times are monotonic seconds."""

    def __init__(self, lease: Lease) -> None:
        self._policy = POLICIES[lease.policy]
        self._ageing_s = lease.ageing_s
        self._seats = lease.members
        self._used = {member.center: member.used for member in lease.members}
        self._weights = {member.center: member.weight for member in lease.members}
        self._ranks: dict[int, Rank] = {}
        self._requests = 0

    def ask(self, member: int, now: float) -> None:
        """A member without a pending request makes one."""
        requester, self._requests = self._seats[member], self._requests + 1
        waiting = QueuedExecution(
            requester.task,
            0,
            self._requests,
            requester.center,
            requester.task,
            hybrid=True,
            arrived=now,
            coupling=requester.coupling,
        )
        self._ranks[member] = self._policy.rank(waiting, self._ageing_s)

    def waits(self, member: int) -> bool:
        """Whether a member has a pending request."""
        return member in self._ranks

    def take(self) -> int | None:
        """Remove and return the member whose turn it is; None without a pending request."""
        ranks = self._ranks
        if not ranks:
            return None
        if self._policy.by_center and len(ranks) > 1:
            used, members = self._used, self._seats
            member = min(ranks, key=lambda member: (used[members[member].center], ranks[member]))
        else:
            member = min(ranks, key=ranks.__getitem__)
        del ranks[member]
        return member

    def charge(self, member: int, seconds: float) -> None:
        """Account for a member's execution of this duration."""
        center = self._seats[member].center
        self._used[center] += max(seconds, MINIMUM_S) / self._weights[center]

    def remove(self, member: int) -> None:
        """Remove a member's pending request."""
        self._ranks.pop(member, None)
