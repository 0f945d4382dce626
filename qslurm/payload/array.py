"""Arrays of jobs as sbatch takes them: `0-15`, `1,3,5`, `0-15:4`, each with `%4` for four at once."""

from __future__ import annotations

import re
from dataclasses import dataclass

from qslurm.errors import InvalidInputError

LARGEST_INDEX = 4_000_000
"""Slurm's MaxArraySize can't be set above 4000001 (slurm.conf(5)); a C2 may allow much less (1000 by default)."""

MOST_TASKS = 100_000

_PART = re.compile(r"(\d{1,7})(?:-(\d{1,7})(?::(\d{1,7}))?)?")
_WHOLE = re.compile(r"([0-9,:-]+)(?:%(\d{1,7}))?")

HINT = 'Write it as sbatch does: "0-15", "1,3,5", "0-15:4"; "%4" behind it lets four tasks run at once.'


@dataclass(frozen=True)
class Array:
    """The tasks of an array, by index, in order; `at_once` is how many may run at once, None for no limit."""

    indices: tuple[int, ...]
    at_once: int | None = None

    def format(self) -> str:
        """As Slurm takes it."""
        limit = f"%{self.at_once}" if self.at_once else ""
        return ",".join(_ranges(self.indices)) + limit


def parse_array(text: str) -> Array:
    """The tasks that a text names; InvalidInputError for what sbatch would not take."""
    match = _WHOLE.fullmatch(text.strip())
    if match is None:
        raise InvalidInputError(f"The array {text!r} can't be read.", hint=HINT)
    indices: set[int] = set()
    for part in match[1].split(","):
        piece = _PART.fullmatch(part)
        if piece is None:
            raise InvalidInputError(f"The array {text!r} can't be read, at {part!r}.", hint=HINT)
        first, last, step = int(piece[1]), int(piece[2] or piece[1]), int(piece[3] or 1)
        if last < first or step == 0:
            raise InvalidInputError(f"The array {text!r} has no tasks in {part!r}.", hint=HINT)
        if last > LARGEST_INDEX:
            raise InvalidInputError(f"The array {text!r}: Slurm has no index above {LARGEST_INDEX}.")
        tasks = range(first, last + 1, step)
        if len(tasks) <= MOST_TASKS:
            indices.update(tasks)
        if max(len(tasks), len(indices)) > MOST_TASKS:
            raise InvalidInputError(f"The array {text!r} has more than {MOST_TASKS} tasks.")
    at_once = int(match[2]) if match[2] else None
    if at_once == 0:
        raise InvalidInputError(f"The array {text!r} lets no task run.", hint=HINT)
    return Array(tuple(sorted(indices)), at_once)


def _ranges(indices: tuple[int, ...]) -> list[str]:
    """Neighbours as ranges: 0,1,2,5 as 0-2 and 5."""
    found: list[list[int]] = []
    for index in indices:
        if found and found[-1][1] == index - 1:
            found[-1][1] = index
        else:
            found.append([index, index])
    return [str(first) if first == last else f"{first}-{last}" for first, last in found]
