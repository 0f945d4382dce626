"""Time limits, begin times and past times in Slurm's syntax (sbatch(1), --time, --begin; sacct(1), --starttime)."""

from __future__ import annotations

import re
from datetime import datetime, time, timedelta

from qslurm.errors import InvalidInputError

_LIMIT = re.compile(
    r"(?:(?P<days>\d+)-(?P<dh>\d+)(?::(?P<dm>\d+)(?::(?P<ds>\d+))?)?"
    r"|(?P<hours>\d+):(?P<hm>\d+):(?P<hs>\d+)"
    r"|(?P<minutes>\d+)(?::(?P<ms>\d+))?)"
)
UNLIMITED = ("UNLIMITED", "INFINITE", "-1")
"""sbatch's words for no limit, as is 0, in any case (sbatch(1), --time; common/parse_time.c)."""

MOST_MINUTES = 2**31 - 1
"""Slurm's maximum."""

LIMIT_HINT = (
    'Use the syntax of sbatch: "minutes", "minutes:seconds", "hours:minutes:seconds", '
    '"days-hours[:minutes[:seconds]]".'
)


def parse_time_limit(text: str) -> int:
    """Parse a time limit to minutes, rounding seconds up as sbatch does (sbatch(1), --time).

    InvalidInputError if it is invalid or means no limit.
    """
    if text.strip().upper() in UNLIMITED:
        raise _without_limit(text)
    match = _LIMIT.fullmatch(text.strip())
    if match is None:
        raise InvalidInputError(f"Invalid time limit {text!r}.", hint=LIMIT_HINT)
    part = {name: int(value or 0) for name, value in match.groupdict().items()}
    hours = part["days"] * 24 + part["dh"] + part["hours"]
    minutes = hours * 60 + part["dm"] + part["hm"] + part["minutes"]
    seconds = part["ds"] + part["hs"] + part["ms"]
    total = minutes + -(-seconds // 60)
    if total == 0:
        raise _without_limit(text)
    if total > MOST_MINUTES:
        raise InvalidInputError(f"Invalid time limit {text!r}: longer than Slurm supports.", hint=LIMIT_HINT)
    return total


def _without_limit(text: str) -> InvalidInputError:
    return InvalidInputError(
        f"The time limit {text.strip()!r} means no limit, but jobs on C2 need one.",
        hint='Use --time 1:00:00 (in Python time_limit="1:00:00"), or omit it for the partition\'s default.',
    )


BEGIN_HINT = (
    'Use the syntax of sbatch: "16:00", "now+1hour", "tomorrow", "noon", "2026-11-22", "2026-11-22T16:00", '
    "in local time."
)

PAST_HINT = 'Use the syntax of sacct: "2026-11-22", "11/22", "08:00" (today), "now-2days", "yesterday".'

NAMED_TIMES = {
    "midnight": time(0),
    "elevenses": time(11),
    "noon": time(12),
    "fika": time(15),
    "teatime": time(16),
}

DAYS = {"yesterday": -1, "today": 0, "tomorrow": 1}

_UNITS = {"second": 1, "minute": 60, "hour": 3600, "day": 86400, "week": 604800}
_AHEAD = re.compile(r"now(?:\s*([+-])\s*(\d{1,9})\s*([a-z]*))?")
_CLOCK = re.compile(r"(\d{1,2}):(\d{2})(?::(\d{2}))?\s*([ap]m)?")
_DATES = (
    re.compile(r"(?P<year>\d{4})-(?P<month>\d{1,2})-(?P<day>\d{1,2})(?:[t ](?P<clock>.+))?"),
    re.compile(r"(?P<month>\d{1,2})[/.](?P<day>\d{1,2})(?:[/.](?P<short>\d{2}))?(?:[-t ](?P<clock>.+))?"),
    re.compile(r"(?P<month>\d{2})(?P<day>\d{2})(?P<short>\d{2})(?:[-t ](?P<clock>.+))?"),
)


def parse_begin(text: str, now: datetime) -> int:
    """Parse a begin time to Unix time, relative to `now`; InvalidInputError if invalid.

    A time of day that has passed today is tomorrow's. A date in the past starts the job at once, as with sbatch.
    """
    return _moment(text, now, ahead=True, what="begin time", hint=BEGIN_HINT)


def parse_past(text: str, now: datetime) -> int:
    """Parse a past time to Unix time. A time of day is today's; `now-2days` is allowed."""
    return _moment(text, now, ahead=False, what="time", hint=PAST_HINT)


def _moment(text: str, now: datetime, *, ahead: bool, what: str, hint: str) -> int:
    words = text.strip().lower()
    try:
        moment = (
            _from_now(words, now, ahead=ahead) or _day(words, now) or _clock_today(words, now, ahead=ahead)
        )
        if moment is None:
            raise InvalidInputError(f"Invalid {what} {text!r}.", hint=hint)
        return int(moment.timestamp())
    except (ValueError, OverflowError) as error:  # such as 31 February, or the year 99999
        raise InvalidInputError(f"Invalid {what} {text!r}: {error}.", hint=hint) from error


def _from_now(words: str, now: datetime, *, ahead: bool) -> datetime | None:
    match = _AHEAD.fullmatch(words)
    if match is None or match[1] == ("-" if ahead else "+"):
        return None
    unit = match[3] or "second"
    size = next((size for name, size in _UNITS.items() if unit in (name, f"{name}s", name[:3])), None)
    if size is None:
        raise ValueError(f"unknown unit {unit!r}, use one of {', '.join(_UNITS)}")
    span = int(match[2] or 0) * size
    return datetime.fromtimestamp(
        now.timestamp() + (span if ahead else -span)
    )  # correct across changes of daylight saving time


def _day(words: str, now: datetime) -> datetime | None:
    name, _, rest = words.partition(" ")
    if name in DAYS:
        clock = _clock(rest.strip()) if rest else time(0)
        return datetime.combine(now.date() + timedelta(days=DAYS[name]), clock) if clock is not None else None
    for form in _DATES:
        if match := form.fullmatch(words):
            parts = match.groupdict()
            year = int(parts.get("year") or (2000 + int(parts["short"]) if parts.get("short") else now.year))
            clock = _clock(parts["clock"]) if parts["clock"] else time(0)
            if clock is None:
                return None
            return datetime.combine(datetime(year, int(parts["month"]), int(parts["day"])), clock)
    return None


def _clock_today(words: str, now: datetime, *, ahead: bool) -> datetime | None:
    clock = _clock(words)
    if clock is None:
        return None
    return next_at(clock, now) if ahead else datetime.combine(now.date(), clock)


def next_at(clock: time, now: datetime) -> datetime:
    """The next local time after `now` with this time of day, which may be the second one when clocks are put back."""
    days = (now.date(), now.date(), now.date() + timedelta(days=1))
    moments = [
        datetime.combine(day, clock.replace(fold=fold)) for day, fold in zip(days, (0, 1, 0), strict=True)
    ]
    return next((moment for moment in moments if moment.timestamp() > now.timestamp()), moments[-1])


def _clock(words: str) -> time | None:
    if words in NAMED_TIMES:
        return NAMED_TIMES[words]
    match = _CLOCK.fullmatch(words)
    if match is None:
        return None
    hour = int(match[1])
    if match[4]:
        if not 1 <= hour <= 12:
            raise ValueError(f"{hour} {match[4]} is not an hour")
        hour = hour % 12 + (12 if match[4] == "pm" else 0)
    return time(hour, int(match[2]), int(match[3] or 0))
