"""Converts a hybrid job's final result to JSON."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import msgspec

from qslurm.errors import JobFailedError
from qslurm.protocol.nesting import TOO_DEEP, is_too_deep

MAX_BYTES = 64_000_000
"""Size of a final result as JSON; it is kept in the store and sent over HTTP."""


_MAX_PLACES, _MAX_PLACE_LENGTH = 5, 100  # how many places a remark names, and characters of each

Remark = Callable[[str], None]
"""Called with a sentence about a result."""


def as_final_result(value: Any, file: str, remark: Remark = lambda _: None) -> dict[str, Any]:
    """The dict that `finalize` returned, in types that JSON knows; raises JobFailedError if that is impossible.

    numpy's scalars become numbers, its arrays, tuples and sets lists, complex numbers [real, imaginary], keys
    strings, integers of more than 63 bits strings. NaN and infinity, which JSON lacks, become null, and
    `remark` names the places: a result of an hour of quantum time is not discarded for one of them.
    """
    if not isinstance(value, dict):
        raise JobFailedError(
            f"{file}: finalize returned {_article(value)} instead of a dict.",
            hint="End finalize with a dict, for example return {'energy': energy}.",
        )
    replaced: list[str] = []
    try:
        result: dict[str, Any] = _as_json(value, "result", file, replaced)
    except RecursionError as error:
        raise _too_deep(file) from error
    if is_too_deep(result):
        raise _too_deep(file)
    size = len(msgspec.json.encode(result))
    if size > MAX_BYTES:
        raise JobFailedError(
            f"{file}: the final result has {size / 1e6:.0f} MB of JSON; the limit is {MAX_BYTES / 1e6:.0f} MB.",
            hint="Return the key figures, and write bulk data to a file.",
        )
    if replaced:
        places = ", ".join(replaced[:_MAX_PLACES]) + (
            f" and {n} more" if (n := len(replaced) - _MAX_PLACES) > 0 else ""
        )
        remark(f"JSON has no NaN and no infinity; replaced by null in {places}.")
    return result


def _too_deep(file: str) -> JobFailedError:
    return JobFailedError(
        f"{file}: finalize returned a result that is {TOO_DEEP}, or contains itself.",
        hint="Return numbers, strings, lists and dicts.",
    )


def _as_json(value: Any, place: str, file: str, replaced: list[str]) -> Any:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return value.encode(errors="backslashreplace").decode()
    if isinstance(value, int):
        return int(value) if abs(value) < 2**63 else str(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            replaced.append(place[:_MAX_PLACE_LENGTH])
            return None
        return float(value)
    if isinstance(value, complex):
        return [_as_json(value.real, place, file, replaced), _as_json(value.imag, place, file, replaced)]
    if isinstance(value, dict):
        return {_key(key): _as_json(item, f"{place}[{key!r}]", file, replaced) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_as_json(item, f"{place}[{i}]", file, replaced) for i, item in enumerate(value)]
    # numpy's scalars and arrays, and types with the same interface, convert themselves to Python's types
    convert = getattr(value, "tolist", None)
    if callable(convert) and type(plain := convert()) is not type(value):
        return _as_json(plain, place, file, replaced)
    raise JobFailedError(
        f"{file}: finalize returned {_article(value)} in {place}, which JSON does not support.",
        hint="Convert it to numbers, strings, lists or dicts.",
    )


def _key(key: Any) -> str:
    convert = getattr(key, "item", None)
    return str(convert() if callable(convert) else key).encode(errors="backslashreplace").decode()


def _article(value: Any) -> str:
    return "nothing (None)" if value is None else f"an object of type {type(value).__name__}"
