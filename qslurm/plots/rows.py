"""Results as rows: one table for a circuit's counts, a hybrid job's result, and the tasks of an array."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from typing import Any

from qslurm.errors import InvalidInputError

Document = Mapping[str, Any]
Row = list[object]


def rows_of(document: Document) -> tuple[list[str], list[Row]]:
    """Header and rows of a results document: bits, count and share of a circuit; the values of a final result.

    Of an array's tasks, each row begins with the task's id and its parameters. Tasks without results are left out.
    """
    tasks = document.get("tasks")
    if tasks is None:
        header, rows = _of_one(document, _scalars([document]))
        return header, rows
    done = [task for task in tasks if "error" not in task]
    parameters = list(dict.fromkeys(name for task in done for name in task["parameters"]))
    names = _scalars(done)
    header, found = [], []
    for task in done:
        header, rows = _of_one(task, names)
        found += [[task["id"], *(task["parameters"].get(name) for name in parameters), *row] for row in rows]
    return ["task", *parameters, *header], found


def _of_one(document: Document, names: Sequence[str]) -> tuple[list[str], list[Row]]:
    if document["kind"] == "circuit":
        counts = document.get("counts") or {}
        total = sum(counts.values()) or 1
        return ["bits", "count", "share"], [
            [bits, count, count / total] for bits, count in sorted(counts.items())
        ]
    if document["kind"] in {"hybrid", "session"}:
        result = document.get("final_result") or {}
        return list(names), [[_cell(result.get(name)) for name in names]]
    raise InvalidInputError("A batch script has no results.", hint="`qslurm logs` prints its output.")


def _scalars(documents: Sequence[Document]) -> list[str]:
    return list(dict.fromkeys(name for one in documents for name in one.get("final_result") or {}))


def _cell(value: object) -> object:
    return json.dumps(value) if isinstance(value, list | dict) else value


def as_csv(document: Document) -> str:
    """The rows as CSV, with a header."""
    header, rows = rows_of(document)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue()
