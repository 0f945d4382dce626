"""What benches measured: medians over several runs, each beside its peer's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import median
from typing import Any


@dataclass
class Report:
    """`runs` is how often a measurement is to be repeated."""

    runs: int
    quiet: bool = False
    _bench: str = ""
    _rows: list[dict[str, Any]] = field(default_factory=list)

    def begin(self, bench: str) -> None:
        """What follows belongs to this bench."""
        self._bench = bench
        self._say(f"\n{bench}")

    def measure(self, what: str, once: Callable[[], float], *, unit: str, peer: float | None = None) -> float:
        """Measure `runs` times; the median. With a peer's figure, their ratio is shown."""
        return self.add(what, [once() for _ in range(self.runs)], unit=unit, peer=peer)

    def add(self, what: str, values: list[float], *, unit: str, peer: float | None = None) -> float:
        """Note measured values; their median."""
        middle = median(values)
        row: dict[str, Any] = {"bench": self._bench, "what": what, "median": middle, "unit": unit}
        row |= {"least": min(values), "most": max(values), "runs": len(values)}
        text = f"  {what:<58} {middle:>10.4g} {unit:<6} ({min(values):.4g} to {max(values):.4g})"
        if peer:
            row["ratio"] = middle / peer
            text += f"  {middle / peer:.3g} of its peer"
        self._rows.append(row)
        self._say(text)
        return middle

    def note(self, text: str) -> None:
        """A sentence beside the figures."""
        self._say(f"  {text}")

    def document(self) -> dict[str, Any]:
        """All that was measured."""
        return {"measurements": self._rows}

    def _say(self, text: str) -> None:
        if not self.quiet:
            print(text, flush=True)
