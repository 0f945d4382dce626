"""What a machine says that it has measured, and whether that can be of the circuit it was given."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from qslurm.errors import QslurmError


class InvalidReplyError(QslurmError):
    """The machine says what can't be understood, or speaks of something else."""


class MachineResult(msgspec.Struct, frozen=True):
    """The payload of an answer to `execute`; keys and raw data have the last qubit leftmost."""

    job_id: int
    results: dict[str, int]
    raw_data: list[str] | None = None


def check_results(executed: MachineResult, shots: int, width: Iterable[int]) -> None:
    """InvalidReplyError for counts or raw data that can't be of so many shots, or have another width than these."""
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
