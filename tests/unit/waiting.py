"""Tests wait for what they need to see, and for as long as only a real fault takes."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def until(condition: Callable[[], T], timeout_s: float = 60.0) -> T:
    """Wait until the condition gives something true, and give that."""
    end, pause = time.monotonic() + timeout_s, 0.002
    while not (found := condition()):
        if time.monotonic() > end:
            raise AssertionError(f"not within {timeout_s} s")
        time.sleep(pause)
        pause = min(1.5 * pause, 0.02)  # looking takes time, too
    return found
