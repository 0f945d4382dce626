"""The result that a machine reports for a circuit, and whether it can be right."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from qslurm.errors import QslurmError


class InvalidReplyError(QslurmError):
    """The machine's reply is malformed, or belongs to another request."""


class MachineResult(msgspec.Struct, frozen=True):
    """The payload of the reply to `execute`; keys and raw data have the last qubit leftmost."""

    job_id: int
    results: dict[str, int]
    raw_data: list[str] | None = None


def check_results(executed: MachineResult, shots: int, width: Iterable[int]) -> None:
    """Raise InvalidReplyError if counts or raw data do not fit the number of shots or these widths."""
    widths = set(width)
    strings = [*executed.results, *(executed.raw_data or ())]
    if any(len(string) not in widths or string.strip("01") for string in strings):
        expected = " or ".join(map(str, sorted(widths)))
        raise InvalidReplyError(f"its results are not strings of {expected} zeros and ones")
    counts = executed.results.values()
    if not counts or min(counts) < 1 or sum(counts) > shots:
        raise InvalidReplyError(f"its counts do not match {shots} shots")
    if executed.raw_data is not None and len(executed.raw_data) > shots:
        raise InvalidReplyError(f"its raw data has {len(executed.raw_data)} shots instead of {shots}")
