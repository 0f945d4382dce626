"""Who is next? Policies are plain functions on plain data: from what waits to the one that goes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Waiting:
    """An execution in a backend's queue. `number` grows with each asked for, and stays on a second try."""

    task: int
    seq: int
    number: int
    center: str


def fifo(queue: Sequence[Waiting]) -> Waiting:
    """First come, first served (the paper's policy). The queue must not be empty."""
    return min(queue, key=lambda waiting: waiting.number)
