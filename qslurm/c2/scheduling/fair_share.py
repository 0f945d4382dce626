"""Each center's use of a backend, in QPU-seconds that decay with a half-life."""

from __future__ import annotations

import math
from collections.abc import Mapping

_DIGITS = 9

MINIMUM_S = 0.001
"""The least that an execution is charged; executions that take no time could otherwise block all others."""


class FairShares:
    """Decayed use of each center, kept as a logarithm that grows with time.

    Decay multiplies all use by the same factor and does not change the order of centers. In this form a center's
    standing changes only when it uses something, and no number overflows. Times are monotonic seconds.
    """

    def __init__(self, weights: Mapping[str, float], half_life_s: float) -> None:
        self._weights = dict(weights)
        self._half_life_s = half_life_s
        self._logs: dict[str, float] = {}

    def weight(self, center: str) -> float:
        """A center's weight (default: 1)."""
        return self._weights.get(center, 1.0)

    def charge(self, center: str, seconds: float, when: float) -> None:
        """Charge a center for use at a time; negative seconds are a refund."""
        used = max(0.0, self.used(center, when) + seconds)
        self._logs[center] = math.log2(used) + when / self._half_life_s if used else -math.inf

    def used(self, center: str, now: float) -> float:
        """A center's decayed QPU-seconds."""
        return float(2.0 ** (self._logs.get(center, -math.inf) - now / self._half_life_s))

    def standing(self, center: str) -> float:
        """A center's use divided by its weight, as a number to compare: the lowest goes first."""
        log = self._logs.get(center, -math.inf)
        # Rounded, so that centers with the same use by weight are equal.
        return log if log == -math.inf else round(log - math.log2(self.weight(center)), _DIGITS)
