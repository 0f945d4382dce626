"""A circuit that was written in another language, as cQASM 3.0."""

from __future__ import annotations

import re
from dataclasses import dataclass

from qslurm.circuits.text import place


@dataclass(frozen=True)
class Translation:
    """A cQASM 3.0 program, with the offset in the original text of each of its lines."""

    program: str
    source: str
    origins: tuple[int, ...]

    def place(self, line: int) -> tuple[int, int]:
        """Line and column in the original of a line of the program; all are counted from 1."""
        return place(self.source, self.origins[min(line, len(self.origins)) - 1])

    def relocated(self, text: str, file: str) -> str:
        """A message about the program, `file:line:column: …`, with positions in the original."""

        def original(match: re.Match[str]) -> str:
            line, column = self.place(int(match[1]))
            return f"{file}:{line}:{column}:"

        return re.sub(rf"(?<!\S){re.escape(file)}:(\d+):\d+:", original, text)
