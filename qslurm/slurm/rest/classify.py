"""Classifies responses of slurmrestd: a function of status, type and body, and its tables.

slurmrestd's HTTP status is not reliable: it accepts jobs with status 500, and reports a refused token as a database
error. So the body decides, and in it a job id first.
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
    "token_or_silence",  # no answer from slurmctld: a refused token, or it is down
    "token_or_cut",  # slurmctld closed the connection: a refused token, or it crashed
    "token_or_lost",  # no valid answer: a refused token, or slurmctld was too late
    "token_or_accounting",  # slurmdbd failed: a refused token, or it is down
    "permission",
    "already_over",  # to cancel a job that has ended
    "duplicate",
    "refused",
    "no_controller",  # slurmctld was never reached
    "no_accounting",  # slurmdbd was never reached, or refused the token
    "lost",  # sent to slurmctld, without an answer: it may have acted
    "broken",  # not a response of slurmrestd
]


@dataclass(frozen=True)
class ClassifiedResponse:
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
    # errno(3), passed on by slurmrestd; seen: 104, when slurmctld was killed
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

# The most significant of several errors counts. While slurmdbd is down, 23.02 adds 7000 to every response, also when it
# accepts or refuses a job: so any other error counts more.
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

# By number and source: the same number means something else elsewhere.
KINDS_AT: dict[tuple[int, str], Kind] = {
    (1, "slurm_kill_jobs()"): "no_controller",  # 24.11, 26.05: EPERM, when slurmctld is down
    (2010, "slurm_update_job2()"): "permission",  # in a submission it is about user_id
    (2010, "_parse_job_list"): "permission",  # the same on 22.05
}

# By number and description: slurmrestd's own errors about slurmdbd.
KINDS_AS: dict[tuple[int, str], Kind] = {
    (
        7000,
        "Failed to open slurmdbd connection",
    ): "no_accounting",  # 24.11; on 26.05 also a refused token
    (7000, "Failed to open slurmdbd connection, authentication error"): "token",  # 24.11
}

_OF_SLURMDBD = "slurmdb_"
"""Prefix of the source of slurmdbd's errors, which concern neither slurmctld nor changes."""

_NO_ANSWER: tuple[Kind, ...] = (
    *("no_controller", "lost", "token_or_cut", "token_or_lost", "token_or_silence"),
)
"""Kinds that mean that a daemon is unreachable."""

_UNREADABLE = ("Unable to parse", "Failure during parsing", "Requested REST method")
"""Prefixes of slurmrestd's plain-text errors about unintelligible requests."""

GATEWAYS = (502, 503, 504)
"""HTTP statuses of a proxy whose slurmrestd is down; slurmrestd itself uses none of them."""

_NON_ZERO = "Job submission resulted in non-zero return code: "
"""Prefix of a warning of 24.11 and 26.05 that only repeats the next one."""


def classify(status: int, content_type: str, body: bytes) -> ClassifiedResponse:
    """Classify a response by HTTP status, Content-Type and body."""
    if status in (401, 511):
        return ClassifiedResponse("token", words=_first_line(body))
    if content_type.partition(";")[0].strip() != "application/json":
        return _without_json(status, body)
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):  # covers what is not UTF-8 as well
        return ClassifiedResponse("broken", words="a truncated JSON document" if body else "an empty answer")
    if not isinstance(document, dict):
        return ClassifiedResponse("broken", words="an unexpected JSON document")
    return _with_json(status, document)


def _without_json(status: int, body: bytes) -> ClassifiedResponse:
    text = _first_line(body)
    # not about a job: slurmrestd's texts differ by version, and a proxy may have answered
    if status in (404, 410):
        return ClassifiedResponse("no_such_path", words=text)
    if status in (400, 405) and text.startswith(_UNREADABLE):
        return ClassifiedResponse("refused", number=status, words=text)
    if 300 <= status < 400:
        return ClassifiedResponse("broken", words=f"a redirect (HTTP {status})")
    if status in GATEWAYS:
        return ClassifiedResponse("broken", number=status, words=f"HTTP {status}")
    return ClassifiedResponse(
        "broken", words=f"HTTP {status} and {text!r}" if text else f"HTTP {status} and nothing else"
    )


def _with_json(status: int, document: dict[str, Any]) -> ClassifiedResponse:
    errors = [*_entries(document, "errors"), *_errors_in_status(document)]
    notes = _notes(document)
    job_id = document.get("job_id")
    if type(job_id) is int and job_id > 0:
        details = tuple(_as_warning(entry) for entry in errors)
        return ClassifiedResponse("accepted", job_id=job_id, warnings=details + notes, body=document)
    real = [entry for entry in errors if _number(entry) != 0 or _words(entry)]
    if not real and status < 400:
        return ClassifiedResponse("ok", warnings=notes, body=document)
    if not real:
        return ClassifiedResponse("broken", words=f"HTTP {status} without an error", body=document)
    if _pinged_up(document):  # 7000 beside a slurmctld that answers: only the accounting is out of reach
        return ClassifiedResponse(
            "ok", warnings=tuple(_words(entry) for entry in real) + notes, body=document
        )
    worst = min(real, key=lambda entry: _RANK.index(_kind(entry)))
    numbers = [
        _number(entry) for entry in (worst, *real) if _number(entry) > 0 and _kind(entry) == _kind(worst)
    ]
    number = numbers[0] if numbers else _number(worst)
    return ClassifiedResponse(_kind(worst), number, _sentence(worst, real), warnings=notes, body=document)


def _as_warning(entry: dict[str, Any]) -> str:
    """An error beside a job id, as a warning."""
    if _kind(entry) in ("no_accounting", "token_or_accounting"):  # slurmctld has accepted the token
        return "C2's accounting (slurmdbd) is down."
    return f"{_words(entry)} (Slurm error {_number(entry)})"


def _notes(document: dict[str, Any]) -> tuple[str, ...]:
    """The distinct warnings."""
    words = (_words(entry).removeprefix(_NON_ZERO) for entry in _entries(document, "warnings"))
    return tuple(dict.fromkeys(note for note in words if note))


def _errors_in_status(document: dict[str, Any]) -> list[dict[str, Any]]:
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
    # 22.05 also returns -1 for a field that it cannot parse; only without a description is it no answer
    if number == -1 and entry.get("error") != "Unspecified error":
        return "refused"
    if number == -1 and (source == "slurm_process_option_data" or source.startswith("#/")):
        return "refused"  # a field of the request ("#/job/cpu_frequency/", 24.11); slurmctld was not asked
    kind = (
        KINDS_AS.get((number, str(entry.get("description", ""))))
        or KINDS_AT.get((number, source))
        or KINDS.get(number, "refused")
    )
    return "no_accounting" if kind in _NO_ANSWER and source.startswith(_OF_SLURMDBD) else kind


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
