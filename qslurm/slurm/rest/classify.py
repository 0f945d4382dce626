"""Classifies responses of slurmrestd: a function of status, type and body, and its tables.

slurmrestd's HTTP status says little: a job can be accepted with status 500, and a refused token look like a
broken database. So the body decides, and within it a job id before everything else.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, Literal

Kind = Literal[
    "ok",  # a good answer
    "accepted",  # the job exists, whatever the status says
    "no_such_path",  # slurmrestd has no such URL: not this API version, or no such plugin
    "unknown_job",
    "token",  # refused
    "token_or_silence",  # slurmctld answered with nothing: a refused token, or it is dead
    "token_or_cut",  # slurmctld hung up: a refused token, or it died halfway
    "token_or_lost",  # slurmctld's answer was none: a refused token, or it came too late
    "token_or_accounting",  # slurmrestd came no further than slurmdbd: a refused token, or slurmdbd is away
    "permission",
    "already_over",  # to cancel a job that has ended
    "duplicate",
    "refused",
    "no_controller",  # slurmctld was never reached
    "no_accounting",  # slurmdbd was never reached, or refused the token without saying so
    "lost",  # sent on to slurmctld, and no answer came: it may have acted
    "broken",  # an answer, but not one slurmrestd gives
]


@dataclass(frozen=True)
class Verdict:
    """A classified response. `number` and `words` are Slurm's error; `body` is the JSON document, if any."""

    kind: Kind
    number: int = 0
    words: str = ""
    job_id: int | None = None
    warnings: tuple[str, ...] = ()
    body: dict[str, Any] = field(default_factory=dict)


# Slurm's error numbers (slurm_errno.h) that say something other than "refused"; those are in `refusals.HINTS`.
# Recorded with 23.02.8, 24.11.5 and 26.05.5, seen on 22.05.8.
KINDS: dict[int, Kind] = {
    # errno(3), which slurmrestd passes on as it is; seen: 104, from a slurmctld that was killed in that moment
    4: "lost",  # EINTR
    11: "lost",  # EAGAIN
    12: "lost",  # ENOMEM
    32: "token_or_cut",  # EPIPE
    101: "no_controller",  # ENETUNREACH
    103: "lost",  # ECONNABORTED
    104: "token_or_cut",  # ECONNRESET
    105: "lost",  # ENOBUFS
    107: "lost",  # ENOTCONN
    110: "lost",  # ETIMEDOUT
    111: "no_controller",  # ECONNREFUSED
    113: "no_controller",  # EHOSTUNREACH
    -1: "token_or_silence",  # 22.05: every GET, for a refused token and for a dead slurmctld alike
    1000: "token_or_lost",  # 23.02: a slurmctld that is frozen, and runs the job afterwards; beside 7000 also a token
    1007: "token",
    1800: "no_controller",
    1801: "lost",
    1802: "lost",
    1803: "lost",
    2002: "permission",
    2011: "duplicate",
    2017: "unknown_job",
    2021: "already_over",
    2084: "already_over",
    2137: "unknown_job",  # 23.02: an id that is none,
    2139: "unknown_job",  # and one that is larger than any
    5000: "lost",
    5001: "lost",
    5002: "lost",
    5003: "lost",
    5004: "lost",  # slurmctld frozen: seen to run the job afterwards
    5005: "token_or_cut",
    7000: "token_or_accounting",  # 23.02: every call, for a refused token and for a dead slurmdbd alike
    9003: "unknown_job",  # slurmdbd's "nothing found" on 22.05; 23.02 gives an empty list
}

# When an answer carries several errors, the one that explains the others comes first. 23.02 says 7000 beside all that
# it says while slurmdbd is away, and takes jobs and refuses them all the same: so what else is said counts.
_RANK: tuple[Kind, ...] = (
    "token",
    "token_or_cut",
    "token_or_lost",
    "no_controller",
    "lost",
    "permission",
    "unknown_job",
    "already_over",
    "duplicate",
    "refused",
    "no_accounting",
    "token_or_silence",
    "token_or_accounting",
)

# By number and where it was said: the same number means something else elsewhere.
KINDS_AT: dict[tuple[int, str], Kind] = {
    (1, "slurm_kill_jobs()"): "no_controller",  # 24.11, 26.05: EPERM, when there is no slurmctld to tell
    (2010, "slurm_update_job2()"): "permission",  # of a submission it is about user_id
    (2010, "_parse_job_list"): "permission",  # the same on 22.05
}

# By number and description: what slurmrestd itself says of its way to slurmdbd.
KINDS_AS: dict[tuple[int, str], Kind] = {
    (
        7000,
        "Failed to open slurmdbd connection",
    ): "no_accounting",  # 24.11; 26.05 says it of a refused token, too
    (7000, "Failed to open slurmdbd connection, authentication error"): "token",  # 24.11
}

_OF_SLURMDBD = "slurmdb_"
"""Prefix of the source of slurmdbd's errors, which concern neither slurmctld nor changes."""

_ON_THE_WAY: tuple[Kind, ...] = (
    *("no_controller", "lost", "token_or_cut", "token_or_lost", "token_or_silence"),
)
"""Errors that mean a daemon is unreachable."""

_UNREADABLE = ("Unable to parse", "Failure during parsing", "Requested REST method")
"""Prefixes of slurmrestd's plain-text errors about unintelligible requests."""

GATEWAYS = (502, 503, 504)
"""HTTP statuses of a proxy whose slurmrestd is down; slurmrestd itself uses none of them."""

_NON_ZERO = "Job submission resulted in non-zero return code: "
"""Prefix of a warning of 24.11 and 26.05 that only repeats the next one."""


def classify(status: int, content_type: str, body: bytes) -> Verdict:
    """Classify a response by HTTP status, Content-Type and body."""
    if status in (401, 511):
        return Verdict("token", words=_first_line(body))
    if content_type.partition(";")[0].strip() != "application/json":
        return _without_json(status, body)
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):  # covers what is not UTF-8 as well
        return Verdict("broken", words="a truncated JSON document" if body else "an empty answer")
    if not isinstance(document, dict):
        return Verdict("broken", words="an unexpected JSON document")
    return _with_json(status, document)


def _without_json(status: int, body: bytes) -> Verdict:
    text = _first_line(body)
    # slurmrestd's own words differ by version, and a proxy before it has others; what is about a job is JSON
    if status in (404, 410):
        return Verdict("no_such_path", words=text)
    if status in (400, 405) and text.startswith(_UNREADABLE):
        return Verdict("refused", number=status, words=text)
    if 300 <= status < 400:
        return Verdict("broken", words=f"a redirect (HTTP {status})")
    if status in GATEWAYS:
        return Verdict("broken", number=status, words=f"HTTP {status}")
    return Verdict(
        "broken", words=f"HTTP {status} and {text!r}" if text else f"HTTP {status} and nothing else"
    )


def _with_json(status: int, document: dict[str, Any]) -> Verdict:
    errors = [*_entries(document, "errors"), *_told_by_job(document)]
    notes = _notes(document)
    job_id = document.get("job_id")
    if type(job_id) is int and job_id > 0:
        details = tuple(_told_beside(entry) for entry in errors)
        return Verdict("accepted", job_id=job_id, warnings=details + notes, body=document)
    real = [entry for entry in errors if _number(entry) != 0 or _words(entry)]
    if not real and status < 400:
        return Verdict("ok", warnings=notes, body=document)
    if not real:
        return Verdict("broken", words=f"HTTP {status} without an error", body=document)
    if _pinged_up(document):  # 7000 beside a slurmctld that answers: only the accounting is out of reach
        return Verdict("ok", warnings=tuple(_words(entry) for entry in real) + notes, body=document)
    worst = min(real, key=lambda entry: _RANK.index(_kind(entry)))
    numbers = [
        _number(entry) for entry in (worst, *real) if _number(entry) > 0 and _kind(entry) == _kind(worst)
    ]
    number = numbers[0] if numbers else _number(worst)
    return Verdict(_kind(worst), number, _sentence(worst, real), warnings=notes, body=document)


def _told_beside(entry: dict[str, Any]) -> str:
    """Whether an error is harmless."""
    if _kind(entry) in ("no_accounting", "token_or_accounting"):  # the token was good enough for slurmctld
        return "C2's accounting (slurmdbd) is down."
    return f"{_words(entry)} (Slurm error {_number(entry)})"


def _notes(document: dict[str, Any]) -> tuple[str, ...]:
    """The distinct warnings."""
    words = (_words(entry).removeprefix(_NON_ZERO) for entry in _entries(document, "warnings"))
    return tuple(dict.fromkeys(note for note in words if note))


def _told_by_job(document: dict[str, Any]) -> list[dict[str, Any]]:
    """From v0.0.42, errors of a cancellation are in `status`, with HTTP 200."""
    numbers = (entry.get("error") for entry in _entries(document, "status"))
    return [
        {"error_number": error.get("code"), "error": error.get("message") or error.get("string")}
        for error in numbers
        if isinstance(error, dict) and error.get("code")
    ]


def _entries(document: dict[str, Any], name: str) -> list[dict[str, Any]]:
    entries = document.get(name)
    return [entry for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []


def _number(entry: dict[str, Any]) -> int:
    """`error_number` from v0.0.39; v0.0.38 has `error_code` for submissions, `errno` for partitions."""
    number = entry.get("error_number", entry.get("error_code", entry.get("errno", 0)))
    return number if isinstance(number, int) else 0


def _kind(entry: dict[str, Any]) -> Kind:
    number, source = _number(entry), str(entry.get("source", ""))
    # -1 is also what 22.05 says beside a field it can't read; only without any other words is it silence
    if number == -1 and entry.get("error") != "Unspecified error":
        return "refused"
    if number == -1 and (source == "slurm_process_option_data" or source.startswith("#/")):
        return "refused"  # a field of the request ("#/job/cpu_frequency/", 24.11), which was not sent on
    kind = (
        KINDS_AS.get((number, str(entry.get("description", ""))))
        or KINDS_AT.get((number, source))
        or KINDS.get(number, "refused")
    )
    return "no_accounting" if kind in _ON_THE_WAY and source.startswith(_OF_SLURMDBD) else kind


def _words(entry: dict[str, Any]) -> str:
    for name in ("error", "description"):
        words = entry.get(name)
        if isinstance(words, str) and words and words != "Unspecified error":
            return words
    return ""


def _sentence(worst: dict[str, Any], entries: list[dict[str, Any]]) -> str:
    """Slurm's description; a rejected field is named in another entry, or as `source`."""
    words = [_words(worst)]
    words += [str(entry["description"]) for entry in entries if "key" in str(entry.get("description", ""))]
    source = str(worst.get("source", ""))
    if source.startswith("#/"):
        words.append(f"in {source.strip('#/').replace('/', '.')}")
    return ", ".join(dict.fromkeys(word for word in words if word))


def _pinged_up(document: dict[str, Any]) -> bool:
    return any(answers(entry) for entry in _entries(document, "pings"))


def answers(ping: dict[str, Any]) -> bool:
    """Whether the slurmctld of a ping entry answers; v0.0.45 no longer says "UP"."""
    return ping.get("responding") is True or ping.get("pinged", ping.get("ping")) == "UP"


def _first_line(body: bytes) -> str:
    lines = body[:400].decode(errors="replace").strip().splitlines()
    return "".join(c for c in lines[0][:120] if c.isprintable()) if lines else ""
