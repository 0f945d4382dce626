"""Time limits as sbatch takes them."""

from __future__ import annotations

import re

from qslurm.errors import InvalidInputError

_FORM = re.compile(
    r"(?:(?P<days>\d+)-(?P<dh>\d+)(?::(?P<dm>\d+)(?::(?P<ds>\d+))?)?"
    r"|(?P<hours>\d+):(?P<hm>\d+):(?P<hs>\d+)"
    r"|(?P<minutes>\d+)(?::(?P<ms>\d+))?)"
)
HINT = (
    'Write it as sbatch does: "minutes", "minutes:seconds", "hours:minutes:seconds", '
    '"days-hours[:minutes[:seconds]]".'
)


def parse_time_limit(text: str) -> int:
    """Whole minutes of a time limit, seconds rounded up (as sbatch does: manual page, --time).

    InvalidInputError for anything else, and for zero: Slurm reads that as no limit at all.
    """
    match = _FORM.fullmatch(text.strip())
    if match is None:
        raise InvalidInputError(f"The time limit {text!r} can't be read.", hint=HINT)
    part = {name: int(value or 0) for name, value in match.groupdict().items()}
    hours = part["days"] * 24 + part["dh"] + part["hours"]
    minutes = hours * 60 + part["dm"] + part["hm"] + part["minutes"]
    seconds = part["ds"] + part["hs"] + part["ms"]
    total = minutes + -(-seconds // 60)
    if total == 0:
        raise InvalidInputError("A time limit of zero lets no job run.", hint=HINT)
    return total
