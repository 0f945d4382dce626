"""The query fields that lists of the Compute API take: those its official clients send, and those of what is stored.

A field that is not here is refused. To ignore one would answer with more than was asked for, and clients delete what
they are answered with.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from qslurm.c2.jobmanager.compute_api.api_records import Kind, SqlCondition
from qslurm.c2.jobmanager.compute_api.problems import InvalidRequestError

LARGEST = 2**63 - 1
"""The largest number that SQLite has."""

PAGING = frozenset({"page", "size", "sort_by"})

Filter = Callable[[str, str], SqlCondition]
"""From a field's name and its text in the query."""


def number_of(name: str, text: str) -> int:
    """A number of the query; InvalidRequestError for what is none, or larger than any that is given here."""
    if not (text.isascii() and text.isdigit() and len(text) < 20 and int(text) <= LARGEST):
        raise InvalidRequestError(f"{name} must be a number.")
    return int(text)


def _number(name: str, text: str) -> SqlCondition:
    return SqlCondition(f"{_stored(name)} = ?", (number_of(name, text),))


def _text(name: str, text: str) -> SqlCondition:
    return SqlCondition(f"{_stored(name)} = ?", (text,))


def _truth(name: str, text: str) -> SqlCondition:
    if text.lower() not in {"true", "false"}:
        raise InvalidRequestError(f"{name} must be true or false.")
    return SqlCondition(f"{_stored(name)} = ?", (int(text.lower() == "true"),))


def _contained(*fields: str) -> Filter:
    def contained(name: str, text: str) -> SqlCondition:
        del name
        found = " OR ".join(f"instr(lower({_stored(field)}), lower(?)) > 0" for field in fields)
        return SqlCondition(found, (text,) * len(fields))

    return contained


def _stored(name: str) -> str:
    return "id" if name == "id" else f"CAST(body AS TEXT) ->> '{name}'"


FILTERS: dict[Kind, Mapping[str, Filter]] = {
    "project": {
        "id": _number,
        "search": _contained("name", "description"),
        "name": _text,
        "description": _text,
        "starred": _truth,
    },
    "algorithm": {
        "id": _number,
        "search": _contained("name"),
        "name": _text,
        "project_id": _number,
        "type": _text,
        "shared": _text,
        "link": _text,
    },
    "file": {
        "id": _number,
        "name": _text,
        "commit_id": _number,
        "language_id": _number,
        "compile_stage": _text,
        "generated": _truth,
    },
    "batch_job": {"id": _number, "backend_type_id": _number},
    "job": {
        "id": _number,
        "file_id": _number,
        "batch_job_id": _number,
        "number_of_shots": _number,
        "raw_data_enabled": _truth,
    },
}
"""By what is listed; a job's `status`, which Slurm knows, is besides these (api.py)."""

_ORDERS = {"": "id", "id": "id", "created_on": "id", "name": "CAST(body AS TEXT) ->> 'name'"}
"""By `sort_by`: records are numbered as they are made."""


def conditions(kind: Kind, query: Mapping[str, str]) -> list[SqlCondition]:
    """What the fields of a query ask of the records of a list."""
    return [FILTERS[kind][name](name, text) for name, text in query.items() if name in FILTERS[kind]]


def order(kind: Kind, query: Mapping[str, str]) -> str:
    """How a query wants a list ordered, as SQL; InvalidRequestError for what nothing is ordered by here."""
    asked = query.get("sort_by", "")
    field = asked.removeprefix("-")
    if field not in _ORDERS or (field == "name" and "name" not in FILTERS[kind]):
        raise InvalidRequestError(f"Cannot sort by {field[:40]!r}.")
    return f"{_ORDERS[field]}{' DESC' if asked.startswith('-') else ''}, id"


def refuse_unknown(query: list[tuple[str, str]], known: frozenset[str]) -> None:
    """InvalidRequestError for a field that is not known, or given twice."""
    names = [name for name, _ in query]
    for name in names:
        if name not in known:
            raise InvalidRequestError(f"Unknown query field {name[:40]!r}.")
        if names.count(name) > 1:
            raise InvalidRequestError(f"Duplicate query field {name[:40]!r}.")


def among(ids: list[int]) -> SqlCondition:
    """Records with one of these numbers."""
    import msgspec

    return SqlCondition("id IN (SELECT value FROM json_each(?))", (msgspec.json.encode(ids).decode(),))


def status(wanted: str, over: frozenset[str], open_ones: Mapping[int, Any]) -> SqlCondition:
    """Jobs with a status: of those that are over it is stored, of those that are not `open_ones` knows it by number."""
    if wanted in over:
        return SqlCondition("CAST(body AS TEXT) ->> '$.over.status' = ?", (wanted,))
    if wanted not in {"planned", "running"}:
        raise InvalidRequestError(f"Unknown status {wanted[:40]!r}.")
    known = among([number for number, progress in open_ones.items() if progress.status == wanted])
    not_begun = "CAST(body AS TEXT) ->> 'run' IS NULL" if wanted == "planned" else "0"
    return SqlCondition(
        f"CAST(body AS TEXT) ->> '$.over.status' IS NULL AND ({not_begun} OR {known.sql})", known.values
    )
