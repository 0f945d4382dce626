"""Parses and formats token lifetimes."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from qslurm.errors import InvalidInputError

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_LIFETIME = re.compile(r"([0-9]{1,9})([smhdw])")


def parse_lifetime(text: str) -> int:
    """Parse a lifetime such as `30d`, `12h`, `90m` into seconds; InvalidInputError if invalid."""
    match = _LIFETIME.fullmatch(text.strip())
    if match is None or int(match[1]) == 0:
        raise InvalidInputError(
            f"Invalid lifetime {text!r}.", hint="Use a number and a unit (w, d, h, m, s): 30d, 12h or 90m."
        )
    return int(match[1]) * _UNITS[match[2]]


def describe_lifetime(seconds: float) -> str:
    """A duration in its largest whole unit: `29 days`, `1 hour`; below a second it is `0 seconds`."""
    for name, length in (("day", 86400), ("hour", 3600), ("minute", 60), ("second", 1)):
        number = int(seconds // length)
        if number >= 1:
            return f"{number} {name}{'s' if number != 1 else ''}"
    return "0 seconds"


def describe_expiry(expires: float, now: float) -> str:
    """A token's expiry as text: `expires in 29 days, 2026-12-22 10:00 UTC`. Both are Unix seconds."""
    moment = f"{datetime.fromtimestamp(expires, UTC):%Y-%m-%d %H:%M} UTC"
    if expires <= now:
        return f"expired {describe_lifetime(now - expires)} ago, {moment}"
    return f"expires in {describe_lifetime(expires - now)}, {moment}"
