"""Results of benchmarks: medians of several runs, compared with peers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import median
from typing import Any


@dataclass
class Report:
    """Collects and prints measurements; each is repeated `runs` times."""

    runs: int
    quiet: bool = False
    _bench: str = ""
    _rows: list[dict[str, Any]] = field(default_factory=list)

    def begin(self, bench: str) -> None:
        """Start the section of a benchmark."""
        self._bench = bench
        self._say(f"\n{bench}")

    def measure(self, what: str, once: Callable[[], float], *, unit: str, peer: float | None = None) -> float:
        """Measure `runs` times and return the median; print its ratio to `peer`."""
        return self.add(what, [once() for _ in range(self.runs)], unit=unit, peer=peer)

    def add(self, what: str, values: list[float], *, unit: str, peer: float | None = None) -> float:
        """Add measured values and return their median."""
        middle = median(values)
        row: dict[str, Any] = {"bench": self._bench, "what": what, "median": middle, "unit": unit}
        row |= {"least": min(values), "most": max(values), "runs": len(values)}
        text = f"  {what:<58} {middle:>10.4g} {unit:<6} ({min(values):.4g} to {max(values):.4g})"
        if peer:
            row["ratio"] = middle / peer
            text += f"  ratio {middle / peer:.3g}"
        self._rows.append(row)
        self._say(text)
        return middle

    def note(self, text: str) -> None:
        """Print a remark."""
        self._say(f"  {text}")

    def document(self) -> dict[str, Any]:
        """All measurements, for `--json`."""
        return {"measurements": self._rows}

    def _say(self, text: str) -> None:
        if not self.quiet:
            print(text, flush=True)
