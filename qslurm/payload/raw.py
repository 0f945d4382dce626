"""A raw payload: a `.json` file that its user wrote, as the paper has them."""

from __future__ import annotations

import json
from typing import Any

from qslurm.errors import InvalidInputError
from qslurm.payload.comment import LIMIT, Comment


def parse_payload(text: str, file: str = "payload") -> dict[str, Any]:
    """The payload in a file's text; InvalidInputError with line and column for what is not JSON."""
    text = text.removeprefix("\ufeff")
    try:
        payload = json.loads(text, object_pairs_hook=_no_twins)
    except json.JSONDecodeError as error:
        where, what, do = _explained(text, error)
        raise InvalidInputError(f"{file}:{where}: this is not JSON: {what}.", hint=do) from error
    except RecursionError as error:
        raise InvalidInputError(f"{file} is nested too deeply.") from error
    except ValueError as error:
        raise InvalidInputError(f"{file}: {error}.") from error
    if not isinstance(payload, dict):
        raise InvalidInputError(
            f"{file} is not a payload.", hint="A payload is an object with job and script."
        )
    return payload


def script_in(payload: dict[str, Any]) -> object:
    """A payload's batch script, which stands beside the job or in it; whatever its user has put there."""
    job = payload.get("job")
    return payload.get("script", job.get("script") if isinstance(job, dict) else None)


_SHAPE = "A payload is an object with job and script; a template's expressions stand without quotes."
_WRITE_SO = (
    r"Within quotes write \n for a line break and \t for a tab; `jq -Rs . FILE` makes such a text of a file."
)
_BREAKS = {"\n": "a line break", "\r": "a line break", "\t": "a tab"}


def _explained(text: str, error: json.JSONDecodeError) -> tuple[str, str, str]:
    """Where a text is no JSON (line and column), what is wrong there, and what to do.

    The paper prints a payload without its first brace, and with line breaks in its script.
    """
    if error.msg == "Extra data" and text.lstrip().startswith('"'):
        at = len(text) - len(text.lstrip())
        where = f"{text.count(chr(10), 0, at) + 1}:{at - text.rfind(chr(10), 0, at)}"
        return where, "an opening { is missing before its first name", _second_fault("{" + text) or _SHAPE
    where = f"{error.lineno}:{error.colno}"
    if error.msg.startswith("Invalid control character"):
        return where, f"a text holds {_BREAKS.get(text[error.pos], 'a control character')}", _WRITE_SO
    return where, error.msg, _SHAPE


def _second_fault(text: str) -> str:
    """What to do about a line break in a text as well, so that nobody has to try twice; empty if there is none."""
    try:
        json.loads(text)
    except json.JSONDecodeError as error:
        if error.msg.startswith("Invalid control character"):
            found = _BREAKS.get(text[error.pos], "a control character")
            return f"Line {error.lineno} holds {found} in a text, too. {_WRITE_SO}"
    except (RecursionError, ValueError):
        return ""
    return ""


def with_key(payload: dict[str, Any], marks: Comment) -> dict[str, Any]:
    """The payload with a submission's key in its comment, if that is empty or one of ours without a key.

    Whatever else its comment says is its user's, and is sent as it is: the job can't be looked up by a key then.
    """
    job = payload.get("job")
    said = job.get("comment", "") if isinstance(job, dict) else None
    if not isinstance(said, str) or not isinstance(job, dict) or Comment.parse(said).key:
        return payload
    words = said.split(maxsplit=1)
    if words and words[0] != "qslurm":
        return payload
    comment = f"qslurm key={marks.key} {words[1]}" if len(words) > 1 else marks.format()
    if len(comment.encode(errors="surrogatepass")) > LIMIT:
        return payload
    return {**payload, "job": {**job, "comment": comment}}


C2_DECIDES = ("current_working_directory", "standard_input", "standard_output", "standard_error")
"""What C2's job_submit.lua decides itself for a quantum job."""

_NOTHING_ASKED = ("", "/", "/tmp", "/dev/null")  # noqa: S108 -- what payloads say that must say something


def decided_by_c2(payload: dict[str, Any]) -> list[str]:
    """The fields of a payload in which its user asks for a file or folder of C2's that the job does not get."""
    job = payload.get("job")
    if not isinstance(job, dict):
        return []
    return [name for name in C2_DECIDES if job.get(name, "") not in _NOTHING_ASKED]


def _no_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object whose names are unique: of twins, JSON readers disagree which one counts."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twin = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the field {twin!r} is given twice")
    return found
