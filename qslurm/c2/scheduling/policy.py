"""Scheduling policies: pure functions that rank waiting executions. The lowest rank goes first.

Ranks do not change while an execution waits, except for the standing of its center, so that waiting_order.py can keep
executions sorted. `choose` is the reference for it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

COUPLING_GAP_S = 1.0
"""The gap between an outcome and the next circuit at which a job's coupling is 0.5."""


@dataclass(frozen=True, slots=True)
class QueuedExecution:
    """An execution in a backend's queue.

    `number` increases with each request, and stays when the execution is queued again. `job` is C2's job id. `arrived`
    is the time of the request (monotonic seconds), `coupling` how often its job couples, from 0 (never) to 1 (at once).
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
    """`rank` takes an execution and the backend's `ageing_s`; with `by_center` the center's standing ranks first."""

    name: str
    rank: Callable[[QueuedExecution, float], Rank]
    by_center: bool = False
    words: str = ""


def _first_come(waiting: QueuedExecution, _ageing_s: float) -> Rank:
    return 0.0, waiting.number


def _coupling_first(waiting: QueuedExecution, ageing_s: float) -> Rank:
    # Coupling counts as an earlier arrival, by `ageing_s` at most. Executions that arrive later than that cannot
    # overtake, so none starves; and ranks of waiting executions never change.
    return waiting.arrived - ageing_s * waiting.coupling, waiting.number


FIFO = Policy("fifo", _first_come)
"""First come, first served (the paper's policy)."""

PRIORITY = Policy("priority", _coupling_first, words=", by priority")
"""Jobs that couple often go first; executions that arrive more than `ageing_s` later cannot overtake."""

FAIR = Policy("fair", _first_come, by_center=True, words=", by fair share")
"""The center that has used the least QPU time for its weight goes first; within a center first come, first served."""

POLICIES = {policy.name: policy for policy in (FIFO, PRIORITY, FAIR)}


def choose(
    queue: Sequence[QueuedExecution], policy: Policy, *, ageing_s: float, standing: Mapping[str, float]
) -> QueuedExecution:
    """The next execution of a nonempty queue; `standing` is each center's use divided by its weight."""

    def rank(waiting: QueuedExecution) -> tuple[float, Rank]:
        lead = standing.get(waiting.center, float("-inf")) if policy.by_center else 0.0
        return lead, policy.rank(waiting, ageing_s)

    return min(queue, key=rank)


def coupling(gap_s: float | None) -> float:
    """How often a job couples, from the time it takes between an outcome and its next circuit (None: unknown)."""
    return 0.0 if gap_s is None else 1.0 / (1.0 + gap_s / COUPLING_GAP_S)
