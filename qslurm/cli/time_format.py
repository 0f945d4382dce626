"""Times as people read them."""

from __future__ import annotations

import time
from functools import lru_cache
from itertools import pairwise


@lru_cache(maxsize=4096)  # jobs that are submitted together share their times
def clock_time(unix_s: float | None) -> str:
    """A Unix time as local date and time (2026-11-22 10:02:31); nothing for none."""
    if not unix_s:
        return ""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(unix_s))


def duration(seconds: float) -> str:
    """A duration in its two largest units: 4 s, 3 min 20 s, 5 h 2 min, 12 d 3 h."""
    whole = max(0, int(seconds))
    if whole < 60:
        return f"{whole} s"
    units = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))
    for (size, unit), (smaller, smaller_unit) in pairwise(units):
        if whole >= size:
            rest = whole % size // smaller
            return f"{whole // size} {unit}" + (f" {rest} {smaller_unit}" if rest else "")
    raise AssertionError(whole)


def ago(unix_s: float, now: float | None = None) -> str:
    """How long ago a Unix time was."""
    return duration((time.time() if now is None else now) - unix_s)
