"""What an emulator's samples are as the outcome of an execution."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable

from qslurm.runtimes.interface import Outcome


def emulated_outcome(
    samples: Iterable[tuple[str, int]], seed: int | None, *, raw_data: bool, seconds: float
) -> Outcome:
    """Add up samples (a key, and how many shots had it).

    Raw data has the shots in random order, which the seed decides: none of them came before another.
    """
    counts: Counter[str] = Counter()
    for key, count in samples:
        counts[key] += count
    shots = counts.total()
    strings = None
    if raw_data:
        strings = [key for key, count in sorted(counts.items()) for _ in range(count)]
        random.Random(seed).shuffle(strings)  # noqa: S311 -- a simulation, no secret
    return Outcome(
        counts=dict(sorted(counts.items())),
        raw_data=strings,
        shots_requested=shots,
        shots_done=shots,
        seconds=seconds,
    )
