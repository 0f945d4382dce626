"""Who is next? Policies are plain functions on plain data: from what waits to the one that goes.

A policy ranks what waits; the lowest rank goes first. Ranks do not change while an execution waits, except for
the standing of its center, so that queue.py can keep them in order instead of looking at everything each time.
`choose` is what it has to be equal to.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

COUPLING_GAP_S = 1.0
"""A job that takes so long between an outcome and its next circuit couples half as much as one that takes none."""


@dataclass(frozen=True, slots=True)
class QueuedExecution:
    """An execution in a backend's queue.

    `number` grows with each asked for, and stays on a second try. `job` is C2's job id. `arrived` is when it
    was asked for (monotonic seconds), `coupling` how often its job couples, from 0 (never) to 1 (at once).
    """

    task: int
    seq: int
    number: int
    center: str
    job: int = 0
    hybrid: bool = False
    arrived: float = 0.0
    coupling: float = 0.0


Rank = tuple[float, int]


@dataclass(frozen=True)
class Policy:
    """`rank` takes what waits and the backend's `ageing_s`; with `by_center` the center's standing goes before it."""

    name: str
    rank: Callable[[QueuedExecution, float], Rank]
    by_center: bool = False
    words: str = ""


def _first_come(waiting: QueuedExecution, _ageing_s: float) -> Rank:
    return 0.0, waiting.number


def _coupling_first(waiting: QueuedExecution, ageing_s: float) -> Rank:
    # What couples counts as if it had come earlier, by `ageing_s` at most: who comes later than that can't
    # overtake, so everybody's turn comes; and the rank of what waits never changes.
    return waiting.arrived - ageing_s * waiting.coupling, waiting.number


FIFO = Policy("fifo", _first_come)
"""First come, first served (the paper's policy)."""

PRIORITY = Policy("priority", _coupling_first, words=", by priority")
"""Jobs that couple often go first; nobody is overtaken by what comes more than `ageing_s` later."""

FAIR = Policy("fair", _first_come, by_center=True, words=", by fair share")
"""The center that has used the least QPU time for its weight goes first; within a center first come, first served."""

POLICIES = {policy.name: policy for policy in (FIFO, PRIORITY, FAIR)}


def choose(
    queue: Sequence[QueuedExecution], policy: Policy, *, ageing_s: float, standing: Mapping[str, float]
) -> QueuedExecution:
    """The next of a queue that must not be empty; `standing` is what each center has used for its weight."""

    def rank(waiting: QueuedExecution) -> tuple[float, Rank]:
        lead = standing.get(waiting.center, float("-inf")) if policy.by_center else 0.0
        return lead, policy.rank(waiting, ageing_s)

    return min(queue, key=rank)


def coupling(gap_s: float | None) -> float:
    """How often a job couples, from the time it takes between an outcome and its next circuit (None: unknown)."""
    return 0.0 if gap_s is None else 1.0 / (1.0 + gap_s / COUPLING_GAP_S)
