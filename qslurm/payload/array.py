"""Job arrays in sbatch's syntax: `0-15`, `1,3,5`, `0-15:4`, with an optional limit such as `%4`."""

from __future__ import annotations

import re
from dataclasses import dataclass

from qslurm.errors import InvalidInputError

LARGEST_INDEX = 4_000_000
"""The maximum of Slurm's MaxArraySize is 4000001 (slurm.conf(5)); C2 may allow less (default 1000)."""

MOST_TASKS = 100_000

_PART = re.compile(r"(\d{1,7})(?:-(\d{1,7})(?::(\d{1,7}))?)?")
_WHOLE = re.compile(r"([0-9,:-]+)(?:%(\d{1,7}))?")

HINT = 'Use the syntax of sbatch: "0-15", "1,3,5", "0-15:4"; append "%4" to run at most four tasks at once.'


@dataclass(frozen=True)
class Array:
    """An array's task indexes in order; `at_once` limits concurrent tasks, None for no limit."""

    indices: tuple[int, ...]
    at_once: int | None = None

    def format(self) -> str:
        """Format for Slurm."""
        limit = f"%{self.at_once}" if self.at_once else ""
        return ",".join(_ranges(self.indices)) + limit


def parse_array(text: str) -> Array:
    """Parse an array; InvalidInputError for what sbatch would refuse."""
    match = _WHOLE.fullmatch(text.strip())
    if match is None:
        raise InvalidInputError(f"Invalid array {text!r}.", hint=HINT)
    indices: set[int] = set()
    for part in match[1].split(","):
        piece = _PART.fullmatch(part)
        if piece is None:
            raise InvalidInputError(f"Invalid array {text!r}, at {part!r}.", hint=HINT)
        first, last, step = int(piece[1]), int(piece[2] or piece[1]), int(piece[3] or 1)
        if last < first or step == 0:
            raise InvalidInputError(f"Invalid array {text!r}: {part!r} is empty.", hint=HINT)
        if last > LARGEST_INDEX:
            raise InvalidInputError(f"Invalid array {text!r}: the largest index is {LARGEST_INDEX}.")
        tasks = range(first, last + 1, step)
        if len(tasks) <= MOST_TASKS:
            indices.update(tasks)
        if max(len(tasks), len(indices)) > MOST_TASKS:
            raise InvalidInputError(f"Invalid array {text!r}: more than {MOST_TASKS} tasks.")
    at_once = int(match[2]) if match[2] else None
    if at_once == 0:
        raise InvalidInputError(f"Invalid array {text!r}: a limit of 0 lets no task run.", hint=HINT)
    return Array(tuple(sorted(indices)), at_once)


def _ranges(indices: tuple[int, ...]) -> list[str]:
    """Join consecutive indexes to ranges: 0,1,2,5 as 0-2 and 5."""
    found: list[list[int]] = []
    for index in indices:
        if found and found[-1][1] == index - 1:
            found[-1][1] = index
        else:
            found.append([index, index])
    return [str(first) if first == last else f"{first}-{last}" for first, last in found]
