"""Tells the story on the terminal: which cluster, which daemon, which job, and when."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable

CLUSTER_COLOURS = {"C1": "36", "C2": "35", "QX": "33"}


class Narrator:
    """Prints lines with the seconds since the demo began; colours on a terminal only."""

    def __init__(self) -> None:
        self._start = time.monotonic()
        self._colours = (
            sys.stdout.isatty()
            and os.environ.get("TERM", "dumb") != "dumb"
            and not os.environ.get("NO_COLOR")
        )

    def elapsed_s(self) -> float:
        """Seconds since the demo began."""
        return time.monotonic() - self._start

    def heading(self, text: str) -> None:
        """A new chapter."""
        print(f"\n{self._paint(text, '1')}", flush=True)

    def tell(self, where: str, text: str) -> None:
        """One thing that happened, and where: C1, C2, QX, or a blank for the host."""
        place = self._paint(where.ljust(3), CLUSTER_COLOURS.get(where, "0"))
        print(f"{self.elapsed_s():6.1f} s  {place} {text}", flush=True)

    def quote(self, lines: Iterable[str]) -> None:
        """Somebody else's words: a script, a job's output."""
        for line in lines:
            print(f"             {self._paint('│', '2')} {line}", flush=True)

    def _paint(self, text: str, code: str) -> str:
        return f"\033[{code}m{text}\033[0m" if self._colours else text
