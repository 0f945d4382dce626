"""Prints the demo's events with their time, cluster and job."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable

CLUSTER_COLOURS = {"C1": "36", "C2": "35", "QX": "33"}


class Narrator:
    """Prints lines with the seconds since the demo's start; in colours on a terminal."""

    def __init__(self) -> None:
        self._start = time.monotonic()
        self._colours = (
            sys.stdout.isatty()
            and os.environ.get("TERM", "dumb") != "dumb"
            and not os.environ.get("NO_COLOR")
        )

    def elapsed_s(self) -> float:
        """Seconds since the demo's start."""
        return time.monotonic() - self._start

    def heading(self, text: str) -> None:
        """Print the title of a chapter."""
        print(f"\n{self._paint(text, '1')}", flush=True)

    def tell(self, where: str, text: str) -> None:
        """Print an event and its place: C1, C2, QX, or empty for this host."""
        place = self._paint(where.ljust(3), CLUSTER_COLOURS.get(where, "0"))
        print(f"{self.elapsed_s():6.1f} s  {place} {text}", flush=True)

    def quote(self, lines: Iterable[str]) -> None:
        """Print lines of a script or of a job's output."""
        for line in lines:
            print(f"             {self._paint('│', '2')} {line}", flush=True)

    def _paint(self, text: str, code: str) -> str:
        return f"\033[{code}m{text}\033[0m" if self._colours else text
