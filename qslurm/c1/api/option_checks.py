"""Checks the arguments of `Center`, so that an error names the option."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from qslurm.c1.followups.followup_submission import CONDITIONS
from qslurm.errors import InvalidInputError
from qslurm.payload.option import Declared, Place
from qslurm.payload.spec import JobSpec, job_options


def job_of(source: object, options: Mapping[str, object], caller: str) -> JobSpec:
    """The job with these options, with its file read; TypeError for an option that `caller` does not have."""
    from qslurm.c1.submission.job_reader import read

    source_text, file = text_or_file(source)
    return read(JobSpec(source=source_text, file=file, **_fields(options, "python", caller)))


def session_of(options: Mapping[str, object]) -> JobSpec:
    """The job that holds a session; TypeError for an option that sessions do not have."""
    from qslurm.c1.submission.job_reader import refuse_empty

    job = JobSpec(source="", kind="session", **_fields(options, "python session", "session"))
    refuse_empty(job)
    return job


def refuse_unknown(names: Iterable[str], caller: str, place: Place = "python") -> None:
    """TypeError for a name that is not an option."""
    known = {keyword for one in job_options(place).values() for keyword in one.keywords}
    if unknown := set(names) - known:
        raise TypeError(f"{caller}() got an unexpected keyword argument {min(unknown)!r}")


def _fields(options: Mapping[str, object], place: Place, caller: str) -> dict[str, Any]:
    """The values by field; None counts as not given."""
    refuse_unknown(options, caller, place)
    found: dict[str, Any] = {}
    for one in job_options(place).values():
        for keyword in one.keywords:
            if (value := options.get(keyword)) is not None:
                if one.field in found:
                    raise InvalidInputError(
                        f"{' and '.join(one.keywords)} are the same option; use only one of them."
                    )
                found[one.field] = _value(one, keyword, value)
    return found


def _value(one: Declared, keyword: str, value: Any) -> Any:
    if wanted := _unless_valid(one, value):
        raise _wrong(keyword, value, wanted)
    if one.type == "texts":
        return tuple(f"{name}={swept(values)}" for name, values in value.items())
    if one.type == "values":
        return {name: str(text) for name, text in value.items()}
    return value


def _unless_valid(one: Declared, value: object) -> str:
    """What the option's value must be; "" if it is."""
    match one.type:
        case "text":
            return "" if isinstance(value, str) else "a string, as for the command line"
        case "flag":
            return "" if isinstance(value, bool) else "True or False"
        case "whole":
            return _unless_whole(value, one.option.least)
        case "seconds":
            return _unless_seconds(value)
        case "texts" | "values":
            return "" if isinstance(value, Mapping) else "a dict of names and values"


def _unless_whole(value: object, least: int) -> str:
    good = isinstance(value, int) and not isinstance(value, bool) and value >= least
    return "" if good else f"an integer, {least} or more"


def _unless_seconds(value: object) -> str:
    good = isinstance(value, int | float) and not isinstance(value, bool) and 0 < float(value) < math.inf
    return "" if good else "a positive number of seconds"


def _wrong(name: str, value: object, wanted: str) -> InvalidInputError:
    return InvalidInputError(f"{name} is {value!r:.60}; it must be {wanted}.")


def check_seconds(limits: Mapping[str, object]) -> None:
    """InvalidInputError for a limit that is not a positive number of seconds; None means no limit."""
    for name, value in limits.items():
        if value is not None and (wanted := _unless_seconds(value)):
            raise _wrong(name, value, wanted)


def check_buffersize(value: object) -> None:
    """InvalidInputError unless it is a positive integer."""
    if wanted := _unless_whole(value, 1):
        raise _wrong("buffersize", value, wanted)


def check_then_if(then_if: object) -> None:
    """InvalidInputError unless it is a condition of a follow-up."""
    if then_if is not None and then_if not in CONDITIONS:
        raise _wrong("then_if", then_if, f"one of {', '.join(CONDITIONS)}")


def text_or_file(source: object) -> tuple[str | None, Path | None]:
    """A job's text or file: a string with a line break, or one that begins as a circuit does, is a text."""
    from qslurm.c1.submission.job_files import is_circuit

    if isinstance(source, str) and ("\n" in source or is_circuit(source)):
        return source, None
    path = os.fspath(source) if isinstance(source, str | os.PathLike) else None
    if not isinstance(path, str):
        raise InvalidInputError(
            f"A job must be a file name or a file's text, not {type(source).__name__}.",
            hint="Call .decode() on bytes.",
        )
    if not path:
        raise InvalidInputError("The job's file has no name, or its text is empty.")
    return None, Path(path)


def swept(values: object) -> str:
    """The values of a sweep, as for the command."""
    if isinstance(values, str):
        return values
    if not isinstance(values, Iterable):
        raise InvalidInputError(
            f"A sweep's values must be a list, or a string such as '0:3.14:0.1', not {values!r:.60}."
        )
    return ",".join(str(value) for value in values)
