"""The table of all metrics, and the dispatcher's counters.

Counters are numbers in dictionaries; one update takes well below a microsecond. They start at zero with the dispatcher.
An execution is counted once, when it has ended; one that is repeated after the loss of its quantum runtime had not.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from typing import Literal

import msgspec

_FINE = (1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_LONG = (30.0, 60.0, 300.0, 900.0, 3600.0, 14_400.0, 86_400.0)


@dataclass(frozen=True)
class Family:
    """A metric. `bounds` are the upper bounds of a histogram's buckets."""

    kind: Literal["counter", "gauge", "histogram"]
    help: str
    labels: tuple[str, ...] = ()
    bounds: tuple[float, ...] = ()


FAMILIES = {
    "executions": Family(
        "counter",
        "Executions that are over, by outcome (done, failed, withdrawn) and way (dispatcher, lane).",
        ("backend", "center", "outcome", "way"),
    ),
    "qpu_seconds": Family(
        "counter", "Seconds that executions have used of a backend.", ("backend", "center")
    ),
    "shots": Family("counter", "Shots that executions have done.", ("backend", "center")),
    "executions_again": Family(
        "counter", "Executions given back to the queue by a quantum runtime, to be done again.", ("backend",)
    ),
    "jobs_ended": Family(
        "counter",
        "Starts of jobs that have ended, by their last state.",
        ("backend", "center", "kind", "state"),
    ),
    "admissions": Family(
        "counter",
        "Answers to Slurm's question whether a job may start: admitted, later, never.",
        ("backend", "answer"),
    ),
    "leases": Family("counter", "Leases of a quantum runtime to a job, over a lane.", ("backend",)),
    "runtimes_lost": Family("counter", "Quantum runtimes that have ended and were replaced.", ("backend",)),
    "store_failures": Family("counter", "Commits that the store did not take."),
    "queue_wait_seconds": Family(
        "histogram", "Time an execution waited until a quantum runtime had it.", ("backend",), _FINE + _LONG
    ),
    "execution_seconds": Family(
        "histogram", "Time an execution took at the backend.", ("backend", "way"), (1e-5, *_FINE, *_LONG[:4])
    ),
    "step_seconds": Family(
        "histogram",
        "Time from a hybrid job's circuit to its stored outcome, by the dispatcher.",
        ("backend",),
        _FINE + _LONG,
    ),
    "admission_seconds": Family("histogram", "Time to answer whether a job may start.", (), _FINE),
    "store_commit_seconds": Family("histogram", "Time the store took for a commit.", (), _FINE),
    "queue_length": Family("gauge", "Executions that wait.", ("backend",)),
    "executing": Family("gauge", "Executions that run, those by lane not among them.", ("backend",)),
    "backend_state": Family(
        "gauge",
        "1 for the state a backend is in: idle, executing, calibrating, offline.",
        ("backend", "state"),
    ),
    "backend_up": Family("gauge", "1 while a backend takes jobs.", ("backend",)),
    "backend_runtimes": Family("gauge", "Quantum runtimes that have joined.", ("backend",)),
    "backend_holds": Family(
        "gauge", "Jobs that hold a backend, or a place at it, by session or lane.", ("backend", "by")
    ),
    "open_jobs": Family(
        "gauge", "Jobs that have been admitted and have not ended.", ("backend", "center", "kind", "state")
    ),
    "dispatcher_ready": Family("gauge", "1 while the dispatcher can store what happens."),
    "dispatcher_start_time_seconds": Family("gauge", "When the dispatcher started, in Unix seconds."),
}
"""By name, without the common prefix."""

Labels = tuple[str, ...]


class LabeledValue(msgspec.Struct, frozen=True, array_like=True):
    """A number with the values of its family's labels."""

    labels: Labels
    value: float


class LabeledHistogram(msgspec.Struct, frozen=True, array_like=True):
    """The count of each bucket (the last one is for values above all bounds), and the sum of all values."""

    labels: Labels
    counts: list[int]
    total: float


@dataclass(slots=True)
class _Buckets:
    bounds: tuple[float, ...]
    counts: list[int]
    total: float = 0.0


@dataclass(slots=True)
class _Used:
    executions: float = 0.0
    seconds: float = 0.0
    shots: float = 0.0


class Counters:
    """The counters and histograms of a dispatcher. Times are those of the task registry's clock."""

    def __init__(self) -> None:
        self._counters: dict[str, dict[Labels, float]] = {}
        self._spreads: dict[str, dict[Labels, _Buckets]] = {}
        self._used: dict[Labels, _Used] = {}
        self._pending: list[tuple[str, float, Labels]] = []
        for name, family in FAMILIES.items():
            if family.kind == "counter":
                self._counters[name] = {} if family.labels else {(): 0.0}
            elif family.kind == "histogram":
                self._spreads[name] = {}
                if not family.labels:
                    self._spread(name, ())

    def add(self, name: str, *labels: str, by: float = 1.0) -> None:
        """Increase a counter."""
        series = self._counters[name]
        series[labels] = series.get(labels, 0.0) + by

    def observe(self, name: str, seconds: float, *labels: str) -> None:
        """Add a duration to a histogram."""
        found = self._spreads[name].get(labels) or self._spread(name, labels)
        found.counts[bisect_left(found.bounds, seconds)] += 1
        found.total += seconds

    def execution(
        self, backend: str, center: str, outcome: str, way: str, *, seconds: float, shots: int
    ) -> None:
        """Count an execution that has ended."""
        labels = (backend, center, outcome, way)
        used = self._used.get(labels) or self._used.setdefault(labels, _Used())
        used.executions += 1
        used.seconds += seconds
        used.shots += shots
        self.observe("execution_seconds", seconds, backend, way)

    def observe_on_reply(self, name: str, since: float, *labels: str) -> None:
        """Add the duration since `since` to a histogram at the next `replies_sent`."""
        self._pending.append((name, since, labels))

    def replies_sent(self, now: float) -> None:
        """Changes are stored, and replies are being sent."""
        for name, since, labels in self._pending:
            self.observe(name, now - since, *labels)
        self._pending.clear()

    def values(self) -> dict[str, list[LabeledValue]]:
        """All counters, by name."""
        counters = {name: dict(series) for name, series in self._counters.items()}
        for labels, used in self._used.items():
            counters["executions"][labels] = used.executions
            for name, amount in (("qpu_seconds", used.seconds), ("shots", used.shots)):
                series = counters[name]
                series[labels[:2]] = series.get(labels[:2], 0.0) + amount
        return {
            name: [LabeledValue(labels, value) for labels, value in series.items()]
            for name, series in counters.items()
        }

    def spreads(self) -> dict[str, list[LabeledHistogram]]:
        """All histograms, by name."""
        return {
            name: [
                LabeledHistogram(labels, list(found.counts), found.total) for labels, found in series.items()
            ]
            for name, series in self._spreads.items()
        }

    def _spread(self, name: str, labels: Labels) -> _Buckets:
        bounds = FAMILIES[name].bounds
        return self._spreads[name].setdefault(labels, _Buckets(bounds, [0] * (len(bounds) + 1)))
