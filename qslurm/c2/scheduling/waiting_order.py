"""What waits at a backend, in order: of each group that competes (centers, or all as one), of each center and job."""

from __future__ import annotations

from collections.abc import Mapping

from sortedcontainers import SortedList

from qslurm.c2.scheduling.fair_share import FairShares
from qslurm.c2.scheduling.policy import Policy, QueuedExecution, Rank

_ALL = ""  # the one group where centers do not compete

_Place = tuple[float, float, int, str]
"""A group's standing, the key of its first execution, and its name: groups are in this order."""


class WaitingOrder:
    """Executions that wait, by the keys that a policy ranks them by. `shares` say how centers stand."""

    def __init__(self, policy: Policy, ageing_s: float, shares: FairShares) -> None:
        self._policy = policy
        self._ageing_s = ageing_s
        self._shares = shares
        self._waiting: dict[int, QueuedExecution] = {}  # by number
        self._numbers: dict[tuple[int, int], int] = {}  # by task and its seq
        self._of_job: dict[int, SortedList[Rank]] = {}
        self._of_center: dict[str, SortedList[Rank]] = {}
        self._all: SortedList[Rank] = SortedList()
        self._groups: SortedList[_Place] = SortedList()
        self._places: dict[str, _Place] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def all(self) -> list[QueuedExecution]:
        """What waits, in no particular order."""
        return list(self._waiting.values())

    def first(self) -> QueuedExecution:
        """The first of the first group; only while something waits."""
        return self._waiting[self._groups[0][2] if self._policy.by_center else self._all[0][1]]

    def numbered(self, number: int) -> QueuedExecution:
        """The execution with that number."""
        return self._waiting[number]

    def of(self, task: int, seq: int) -> QueuedExecution:
        """An execution of a task."""
        return self._waiting[self._numbers[task, seq]]

    def of_job(self, job: int) -> SortedList[Rank]:
        """What waits of a job."""
        return self._of_job.get(job) or SortedList()

    def of_center(self, center: str) -> SortedList[Rank]:
        """What waits of a center."""
        return self._of_center.get(center) or SortedList()

    def groups(self) -> Mapping[str, SortedList[Rank]]:
        """The groups that compete, with what waits in each."""
        return self._of_center if self._policy.by_center else {_ALL: self._all}

    def group(self, waiting: QueuedExecution) -> str:
        """The group it competes in."""
        return waiting.center if self._policy.by_center else _ALL

    def key(self, waiting: QueuedExecution) -> Rank:
        """Where it stands in its group, its center and its job."""
        return self._policy.rank(waiting, self._ageing_s)

    def put(self, waiting: QueuedExecution) -> None:
        """It waits, where its key belongs."""
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
        """It does not wait any more."""
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
        """Put a group where its standing and its first one belong; whoever changes its standing says so."""
        before = self._places.pop(group, None)
        keys = self._of_center.get(group)
        after = None
        if keys:
            after = (self._shares.standing(group), *keys[0], group)
            self._places[group] = after
        if after != before:
            if before is not None:
                self._groups.remove(before)
            if after is not None:
                self._groups.add(after)
