"""The waiting executions of a backend, sorted: by group (a center, or all as one), by center, and by job."""

from __future__ import annotations

from collections.abc import Mapping

from sortedcontainers import SortedList

from qslurm.c2.scheduling.fair_share import FairShares
from qslurm.c2.scheduling.policy import Policy, QueuedExecution, Rank

_ALL = ""  # the only group of a policy without `by_center`

_GroupRank = tuple[float, float, int, str]
"""A group's standing, the key of its first execution, and its name: the order of groups."""


class WaitingOrder:
    """Waiting executions, sorted by a policy. `shares` has the centers' standing."""

    def __init__(self, policy: Policy, ageing_s: float, shares: FairShares) -> None:
        self._policy = policy
        self._ageing_s = ageing_s
        self._shares = shares
        self._waiting: dict[int, QueuedExecution] = {}  # by number
        self._numbers: dict[tuple[int, int], int] = {}  # by task and its seq
        self._of_job: dict[int, SortedList[Rank]] = {}
        self._of_center: dict[str, SortedList[Rank]] = {}
        self._all: SortedList[Rank] = SortedList()
        self._groups: SortedList[_GroupRank] = SortedList()
        self._group_ranks: dict[str, _GroupRank] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def all(self) -> list[QueuedExecution]:
        """All waiting executions, in any order."""
        return list(self._waiting.values())

    def first(self) -> QueuedExecution:
        """The next execution; only if any waits."""
        return self._waiting[self._groups[0][2] if self._policy.by_center else self._all[0][1]]

    def numbered(self, number: int) -> QueuedExecution:
        """The execution with a number."""
        return self._waiting[number]

    def of(self, task: int, seq: int) -> QueuedExecution:
        """An execution of a task."""
        return self._waiting[self._numbers[task, seq]]

    def of_job(self, job: int) -> SortedList[Rank]:
        """The keys of a job's waiting executions."""
        return self._of_job.get(job) or SortedList()

    def of_center(self, center: str) -> SortedList[Rank]:
        """The keys of a center's waiting executions."""
        return self._of_center.get(center) or SortedList()

    def groups(self) -> Mapping[str, SortedList[Rank]]:
        """The groups, with the keys of their waiting executions."""
        return self._of_center if self._policy.by_center else {_ALL: self._all}

    def group(self, waiting: QueuedExecution) -> str:
        """The group of an execution."""
        return waiting.center if self._policy.by_center else _ALL

    def key(self, waiting: QueuedExecution) -> Rank:
        """The sort key of an execution in its group, center and job."""
        return self._policy.rank(waiting, self._ageing_s)

    def put(self, waiting: QueuedExecution) -> None:
        """Insert an execution."""
        key = self.key(waiting)
        self._waiting[waiting.number] = waiting
        self._numbers[waiting.task, waiting.seq] = waiting.number
        self._of_job.setdefault(waiting.job, SortedList()).add(key)
        self._of_center.setdefault(waiting.center, SortedList()).add(key)
        if self._policy.by_center:
            self.place(waiting.center)
        else:
            self._all.add(key)

    def remove(self, waiting: QueuedExecution) -> None:
        """Remove an execution."""
        key = self.key(waiting)
        del self._waiting[waiting.number], self._numbers[waiting.task, waiting.seq]
        of_job, of_center = self._of_job[waiting.job], self._of_center[waiting.center]
        of_job.remove(key)
        of_center.remove(key)
        if not of_job:
            del self._of_job[waiting.job]
        if not of_center:
            del self._of_center[waiting.center]
        if self._policy.by_center:
            self.place(waiting.center)
        else:
            self._all.remove(key)

    def place(self, group: str) -> None:
        """Move a group to its position; call this when its standing has changed."""
        before = self._group_ranks.pop(group, None)
        keys = self._of_center.get(group)
        after = None
        if keys:
            after = (self._shares.standing(group), *keys[0], group)
            self._group_ranks[group] = after
        if after != before:
            if before is not None:
                self._groups.remove(before)
            if after is not None:
                self._groups.add(after)
