"""A raw payload: a `.json` file that its user wrote, as the paper has them."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from qslurm.errors import InvalidInputError
from qslurm.payload.comment import LIMIT, Comment


def parse_payload(text: str, file: str = "payload") -> dict[str, Any]:
    """The payload in a file's text; InvalidInputError with line and column for what is not JSON."""
    try:
        payload = json.loads(text.removeprefix("\ufeff"), object_pairs_hook=_no_twins)
    except json.JSONDecodeError as error:
        raise InvalidInputError(
            f"{file}:{error.lineno}:{error.colno}: this is not JSON: {error.msg}.",
            hint="A payload is an object with job and script; a template's expressions stand without quotes.",
        ) from error
    except RecursionError as error:
        raise InvalidInputError(f"{file} is nested too deeply.") from error
    except ValueError as error:
        raise InvalidInputError(f"{file}: {error}.") from error
    if not isinstance(payload, dict):
        raise InvalidInputError(
            f"{file} is not a payload.", hint="A payload is an object with job and script."
        )
    return payload


def with_key(payload: dict[str, Any], marks: Comment) -> dict[str, Any]:
    """The payload with a submission's key in its comment, so that it can be found again.

    A comment that has a key keeps it; other words of it stay. Without room for the key the payload stays as
    it is.
    """
    job = payload.get("job")
    said = job.get("comment", "") if isinstance(job, dict) else None
    if not isinstance(said, str) or not isinstance(job, dict) or Comment.parse(said).key:
        return payload
    comment = f"{said} {marks.format()}".strip() if said else marks.format()
    if len(comment.encode()) > LIMIT:
        comment = f"{said} {replace(Comment(), key=marks.key).format()}"
    if len(comment.encode()) > LIMIT:
        return payload
    return {**payload, "job": {**job, "comment": comment}}


def _no_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object whose names are unique: of twins, JSON readers disagree which one counts."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twin = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the field {twin!r} is given twice")
    return found
