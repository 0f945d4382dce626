"""Extracts chart data from a results document."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from qslurm.errors import InvalidInputError

MOST_BARS = 64
MOST_LINES = 8

TRACES = ("energies", "trace", "energy_trace", "history", "costs", "losses")
"""Names of lists of numbers in a final result; the first that exists is plotted."""


@dataclass(frozen=True)
class Bars:
    """Counts by bit string. `shots` includes omitted outcomes."""

    title: str
    counts: Mapping[str, int]
    shots: int


@dataclass(frozen=True)
class Lines:
    """Values over x, by line name."""

    title: str
    x_label: str
    y_label: str
    x: Sequence[float]
    lines: Mapping[str, Sequence[float]]


Chart = Bars | Lines


def chart_of(document: Mapping[str, Any], trace: str | None = None) -> Chart:
    """The chart of a results document.

    A circuit's counts become bars; a sweep's, a line for each of the most frequent outcomes over the swept parameter;
    a hybrid job's trace (`trace` names it, else the first of TRACES) a line over its steps; a sweep of hybrid jobs a
    line for each number in their results. InvalidInputError if there is nothing to draw.
    """
    if "tasks" in document:
        return _of_tasks(document)
    title = f"job {document.get('id') or document['job_id']}" if document.get("job_id") else ""
    if document["kind"] == "circuit":
        return _bars(title, document.get("counts") or {})
    if document["kind"] in {"hybrid", "session"}:
        name, values = _trace(document.get("final_result") or {}, trace)
        return Lines(title, "step", name, [float(step) for step in range(len(values))], {name: values})
    raise InvalidInputError("A batch script has no results to plot.")


def _bars(title: str, counts: Mapping[str, int]) -> Bars:
    if not counts:
        raise InvalidInputError("The job has no counts to plot.")
    most = dict(Counter(counts).most_common(MOST_BARS))
    shown = {bits: counts[bits] for bits in sorted(most)}
    shots = sum(counts.values())
    left = f", {len(counts) - len(shown)} less frequent outcomes omitted" if len(counts) > len(shown) else ""
    return Bars(f"{title}, {shots} shots{left}".removeprefix(", "), shown, shots)


def _trace(result: Mapping[str, Any], wanted: str | None) -> tuple[str, list[float]]:
    for name in (wanted,) if wanted else TRACES:
        if values := _numbers(result.get(name)):
            return name, values
    if wanted:
        raise InvalidInputError(
            f"The final result has no list of numbers {wanted!r}.",
            hint=f"Its values: {', '.join(result) or 'none'}.",
        )
    for name, value in result.items():
        if values := _numbers(value):
            return name, values
    raise InvalidInputError(
        "The final result has no list of numbers to plot.",
        hint='Return one from finalize, for example {"energies": [-1.1, -1.8], ...}.',
    )


def _numbers(value: object) -> list[float]:
    """A list of at least two numbers; of pairs such as (angle, energy), the second numbers."""
    if not isinstance(value, list) or len(value) < 2:
        return []
    last = [entry[-1] if isinstance(entry, list) and len(entry) == 2 else entry for entry in value]
    return [float(number) for number in last] if all(_is_number(number) for number in last) else []


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _of_tasks(document: Mapping[str, Any]) -> Lines:
    tasks = [task for task in document["tasks"] if "error" not in task]
    name = next((name for task in tasks for name in task["parameters"]), "")
    if len({key for task in tasks for key in task["parameters"]}) > 1:
        raise InvalidInputError("A sweep of more than one parameter cannot be plotted.", hint="Use --csv.")
    points = sorted(
        ((_x(task, name, place), task) for place, task in enumerate(tasks) if task["kind"] != "script"),
        key=lambda point: point[0],
    )
    if len(points) < 2:
        raise InvalidInputError("Fewer than two tasks have results to plot.")
    circuits = points[0][1]["kind"] == "circuit"
    values = [_shares(task) if circuits else _scalars(task) for _, task in points]
    total: Counter[str] = Counter()
    for one in values:
        total.update({key: abs(value) for key, value in one.items()})
    lines = {
        key: [one.get(key, 0.0 if circuits else float("nan")) for one in values]
        for key in sorted(key for key, _ in total.most_common(MOST_LINES))
    }
    if not lines:
        raise InvalidInputError("The tasks' results have no numbers to plot.")
    y_label = "fraction of shots" if circuits else "result"
    return Lines(f"job {document['job_id']}", name or "task", y_label, [x for x, _ in points], lines)


def _x(task: Mapping[str, Any], name: str, place: int) -> float:
    try:
        return float(task["parameters"][name]) if name else float(str(task["id"]).rpartition("_")[2])
    except ValueError:
        return float(place)


def _shares(task: Mapping[str, Any]) -> dict[str, float]:
    counts = task.get("counts") or {}
    total = sum(counts.values()) or 1
    return {bits: count / total for bits, count in counts.items()}


def _scalars(task: Mapping[str, Any]) -> dict[str, float]:
    result = task.get("final_result") or {}
    return {name: float(value) for name, value in result.items() if _is_number(value)}
