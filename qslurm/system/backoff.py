"""Exponential backoff."""

from __future__ import annotations


class Backoff:
    """Pauses of `first_s` after the first failure, then twice the last one, `longest_s` at most.

    With `at_once` there is no pause after the first failure.
    """

    def __init__(self, first_s: float, longest_s: float, *, at_once: bool = False) -> None:
        self._first_s, self._longest_s = first_s, longest_s
        self._at_once = at_once
        self.failures = 0

    def fail(self) -> float:
        """Count a failure. Returns the seconds to wait before the next attempt."""
        self.failures += 1
        doublings = self.failures - 1 - self._at_once
        if doublings < 0:
            return 0.0
        return min(self._first_s * 2.0 ** min(doublings, 64), self._longest_s)

    def succeed(self) -> None:
        """Reset after a success."""
        self.failures = 0
