"""A hybrid job's final result as JSON can carry it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import msgspec

from qslurm.errors import JobFailedError
from qslurm.protocol.nesting import TOO_DEEP, is_too_deep

MAX_BYTES = 64_000_000
"""Size of a final result as JSON; it is kept in the store and sent over HTTP."""


_MOST_PLACES, _LONGEST_PLACE = 5, 100  # that are named, and characters of each

Remark = Callable[[str], None]
"""Where a sentence goes that belongs to a result."""


def as_final_result(value: Any, file: str, remark: Remark = lambda _: None) -> dict[str, Any]:
    """The dict that `finalize` returned, made of what JSON knows; what it can't be is a JobFailedError.

    numpy's scalars become numbers, its arrays, tuples and sets lists, complex numbers [real, imaginary],
    keys strings, integers of more than 63 bits strings. NaN and infinity, which JSON has no word for, become
    null: a result that took an hour of quantum time is not thrown away for one of them. `remark` is told where.
    """
    if not isinstance(value, dict):
        raise JobFailedError(
            f"{file}: finalize returned {_article(value)} instead of a dict.",
            hint="End finalize with a dict, for example return {'energy': energy}.",
        )
    lost: list[str] = []
    try:
        result: dict[str, Any] = _plain(value, "result", file, lost)
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
    if lost:
        places = ", ".join(lost[:_MOST_PLACES]) + (
            f" and {n} more" if (n := len(lost) - _MOST_PLACES) > 0 else ""
        )
        remark(f"JSON has no NaN and no infinity; replaced by null in {places}.")
    return result


def _too_deep(file: str) -> JobFailedError:
    return JobFailedError(
        f"{file}: finalize returned a result that is {TOO_DEEP}, or contains itself.",
        hint="Return numbers, strings, lists and dicts.",
    )


def _plain(value: Any, place: str, file: str, lost: list[str]) -> Any:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return value.encode(errors="backslashreplace").decode()
    if isinstance(value, int):
        return int(value) if abs(value) < 2**63 else str(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            lost.append(place[:_LONGEST_PLACE])
            return None
        return float(value)
    if isinstance(value, complex):
        return [_plain(value.real, place, file, lost), _plain(value.imag, place, file, lost)]
    if isinstance(value, dict):
        return {_key(key): _plain(item, f"{place}[{key!r}]", file, lost) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item, f"{place}[{i}]", file, lost) for i, item in enumerate(value)]
    # numpy's scalars and arrays (and what copies their interface) turn themselves into Python's own types.
    convert = getattr(value, "tolist", None)
    if callable(convert) and type(plain := convert()) is not type(value):
        return _plain(plain, place, file, lost)
    raise JobFailedError(
        f"{file}: finalize returned {_article(value)} in {place}, which JSON does not support.",
        hint="Convert it to numbers, strings, lists or dicts.",
    )


def _key(key: Any) -> str:
    convert = getattr(key, "item", None)
    return str(convert() if callable(convert) else key).encode(errors="backslashreplace").decode()


def _article(value: Any) -> str:
    return "nothing (None)" if value is None else f"an object of type {type(value).__name__}"
