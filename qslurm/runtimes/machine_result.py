"""The result that a machine reports for a circuit, and whether it can be right."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import msgspec

from qslurm.errors import QslurmError

if TYPE_CHECKING:
    from qslurm.circuits.check import Readout


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


def counts_by_bit(counts: Mapping[str, int], readout: Readout) -> dict[str, int]:
    """Counts by classical bit, in order, of counts by qubit."""
    by_bit: Counter[str] = Counter()
    for key, count in counts.items():
        by_bit[readout.key(key)] += count
    return dict(sorted(by_bit.items()))
