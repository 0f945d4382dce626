"""Raw payloads: `.json` files written by users."""

from __future__ import annotations

import json
from typing import Any

from qslurm.errors import InvalidInputError
from qslurm.payload.comment import LIMIT, Comment


def parse_payload(text: str, file: str = "payload") -> dict[str, Any]:
    """Parse a payload; InvalidInputError with line and column for invalid JSON."""
    text = text.removeprefix("\ufeff")
    try:
        payload = json.loads(text, object_pairs_hook=_no_duplicates)
    except json.JSONDecodeError as error:
        where, what, do = _explained(text, error)
        raise InvalidInputError(f"{file}:{where}: invalid JSON: {what}.", hint=do) from error
    except RecursionError as error:
        raise InvalidInputError(f"{file} is nested too deeply.") from error
    except ValueError as error:
        raise InvalidInputError(f"{file}: {error}.") from error
    if not isinstance(payload, dict):
        raise InvalidInputError(
            f"{file} is not a Slurm job payload.", hint="Use an object with job and script."
        )
    return payload


def script_in(payload: dict[str, Any]) -> object:
    """A payload's batch script, beside the job or in it."""
    job = payload.get("job")
    return payload.get("script", job.get("script") if isinstance(job, dict) else None)


_SHAPE = "Use an object with job and script; write a template's expressions without quotes."
_ESCAPE_HINT = r"In strings, write \n for a line break and \t for a tab; `jq -Rs . FILE` quotes a file."
_BREAKS = {"\n": "a line break", "\r": "a line break", "\t": "a tab"}


def _explained(text: str, error: json.JSONDecodeError) -> tuple[str, str, str]:
    """Position, problem and fix of invalid JSON.

    The paper prints a payload without its first brace, and with line breaks in its script.
    """
    if error.msg == "Extra data" and text.lstrip().startswith('"'):
        at = len(text) - len(text.lstrip())
        where = f"{text.count(chr(10), 0, at) + 1}:{at - text.rfind(chr(10), 0, at)}"
        return where, "the opening { is missing", _second_fault("{" + text) or _SHAPE
    where = f"{error.lineno}:{error.colno}"
    if error.msg.startswith("Invalid control character"):
        return where, f"a string contains {_BREAKS.get(text[error.pos], 'a control character')}", _ESCAPE_HINT
    return where, error.msg, _SHAPE


def _second_fault(text: str) -> str:
    """A hint about a second line break in a string; "" if there is none."""
    try:
        json.loads(text)
    except json.JSONDecodeError as error:
        if error.msg.startswith("Invalid control character"):
            found = _BREAKS.get(text[error.pos], "a control character")
            return f"Line {error.lineno} contains {found} in a string, too. {_ESCAPE_HINT}"
    except (RecursionError, ValueError):
        return ""
    return ""


def with_key(payload: dict[str, Any], marks: Comment) -> dict[str, Any]:
    """Add a submission key to the payload's comment, if it is empty or ours without a key.

    Other comments are sent unchanged; such a job can't be looked up by its key.
    """
    job = payload.get("job")
    old_comment = job.get("comment", "") if isinstance(job, dict) else None
    if not isinstance(old_comment, str) or not isinstance(job, dict) or Comment.parse(old_comment).key:
        return payload
    words = old_comment.split(maxsplit=1)
    if words and words[0] != "qslurm":
        return payload
    comment = f"qslurm key={marks.key} {words[1]}" if len(words) > 1 else marks.format()
    if len(comment.encode(errors="surrogatepass")) > LIMIT:
        return payload
    return {**payload, "job": {**job, "comment": comment}}


C2_DECIDES = ("current_working_directory", "standard_input", "standard_output", "standard_error")
"""Fields that C2's job_submit.lua overwrites in quantum jobs."""

_NEUTRAL = ("", "/", "/tmp", "/dev/null")  # noqa: S108 -- values without a meaning, in required fields


def decided_by_c2(payload: dict[str, Any]) -> list[str]:
    """The file and directory fields of a payload that C2 ignores."""
    job = payload.get("job")
    if not isinstance(job, dict):
        return []
    return [name for name in C2_DECIDES if job.get(name, "") not in _NEUTRAL]


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Refuse duplicate names in an object, which JSON readers treat differently."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        duplicate = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"duplicate field {duplicate!r}")
    return found
