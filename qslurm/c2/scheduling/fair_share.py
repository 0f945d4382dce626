"""What each center has used of a backend: QPU-seconds that count half after each half-life."""

from __future__ import annotations

import math
from collections.abc import Mapping

_DIGITS = 9

MINIMUM_S = 0.001
"""What an execution costs at least: work that takes no time could otherwise keep everybody else waiting."""


class FairShares:
    """Use, kept as a logarithm that grows with time.

    Decay multiplies everybody's use by the same factor and so changes nobody's place; in this form a center's
    standing changes only when it uses something, and no number ever overflows. Times are monotonic seconds.
    """

    def __init__(self, weights: Mapping[str, float], half_life_s: float) -> None:
        self._weights = dict(weights)
        self._half_life_s = half_life_s
        self._logs: dict[str, float] = {}

    def weight(self, center: str) -> float:
        """A center's weight; 1 unless the configuration says otherwise."""
        return self._weights.get(center, 1.0)

    def charge(self, center: str, seconds: float, when: float) -> None:
        """Note what a center used at a time, or with less than 0 seconds, what it was charged too much."""
        used = max(0.0, self.used(center, when) + seconds)
        self._logs[center] = math.log2(used) + when / self._half_life_s if used else -math.inf

    def used(self, center: str, now: float) -> float:
        """The QPU-seconds of a center that still count."""
        return float(2.0 ** (self._logs.get(center, -math.inf) - now / self._half_life_s))

    def standing(self, center: str) -> float:
        """What the center has used for its weight, as a number to compare: the lowest goes first."""
        log = self._logs.get(center, -math.inf)
        # Rounded, so that centers which have used as much for their weight stand equal.
        return log if log == -math.inf else round(log - math.log2(self.weight(center)), _DIGITS)
