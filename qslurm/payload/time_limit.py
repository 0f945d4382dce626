"""Time limits in sbatch's syntax."""

from __future__ import annotations

import re

from qslurm.errors import InvalidInputError

_FORM = re.compile(
    r"(?:(?P<days>\d+)-(?P<dh>\d+)(?::(?P<dm>\d+)(?::(?P<ds>\d+))?)?"
    r"|(?P<hours>\d+):(?P<hm>\d+):(?P<hs>\d+)"
    r"|(?P<minutes>\d+)(?::(?P<ms>\d+))?)"
)
UNLIMITED = ("UNLIMITED", "INFINITE", "-1")
"""Sbatch's words for no limit at all, as is 0 (manual page, --time; common/parse_time.c takes any case)."""

MOST_MINUTES = 2**31 - 1
"""Slurm's maximum; it is 4000 years."""

HINT = (
    'Use the syntax of sbatch: "minutes", "minutes:seconds", "hours:minutes:seconds", '
    '"days-hours[:minutes[:seconds]]".'
)


def parse_time_limit(text: str) -> int:
    """Parse a time limit to minutes, rounding seconds up (as sbatch does: manual page, --time).

    InvalidInputError for anything else, and for what means no limit at all: a backend is for everybody.
    """
    if text.strip().upper() in UNLIMITED:
        raise _without_limit(text)
    match = _FORM.fullmatch(text.strip())
    if match is None:
        raise InvalidInputError(f"Invalid time limit {text!r}.", hint=HINT)
    part = {name: int(value or 0) for name, value in match.groupdict().items()}
    hours = part["days"] * 24 + part["dh"] + part["hours"]
    minutes = hours * 60 + part["dm"] + part["hm"] + part["minutes"]
    seconds = part["ds"] + part["hs"] + part["ms"]
    total = minutes + -(-seconds // 60)
    if total == 0:
        raise _without_limit(text)
    if total > MOST_MINUTES:
        raise InvalidInputError(f"Invalid time limit {text!r}: longer than Slurm supports.", hint=HINT)
    return total


def _without_limit(text: str) -> InvalidInputError:
    return InvalidInputError(
        f"The time limit {text.strip()!r} means no limit, but jobs on C2 need one.",
        hint='Say how long it takes at most, such as --time 1:00:00 or time_limit="1:00:00"; without --time it has the '
        "partition's own.",
    )
