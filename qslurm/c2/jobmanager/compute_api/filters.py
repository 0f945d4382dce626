"""The query fields of the Compute API's lists: those that official clients send, and stored fields.

Unknown fields are refused. Ignoring one would return more records than requested, and clients delete what they get.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from qslurm.c2.jobmanager.compute_api.api_records import Kind, SqlCondition
from qslurm.c2.jobmanager.compute_api.problems import InvalidRequestError

LARGEST = 2**63 - 1
"""SQLite's largest integer."""

PAGING = frozenset({"page", "size", "sort_by"})

Filter = Callable[[str, str], SqlCondition]
"""Makes a condition from a field's name and its value in the query."""


def number_of(name: str, text: str) -> int:
    """A number in the query; InvalidRequestError if invalid or larger than LARGEST."""
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
"""Filters by kind of record. A job's `status` is not stored; see `status`."""

_ORDERS = {"": "id", "id": "id", "created_on": "id", "name": "CAST(body AS TEXT) ->> 'name'"}
"""SQL by `sort_by`: ids increase with the creation time."""


def conditions(kind: Kind, query: Mapping[str, str]) -> list[SqlCondition]:
    """The conditions of a query's fields."""
    return [FILTERS[kind][name](name, text) for name, text in query.items() if name in FILTERS[kind]]


def order(kind: Kind, query: Mapping[str, str]) -> str:
    """The order of a query's `sort_by`, as SQL; InvalidRequestError for an unknown field."""
    sort_by = query.get("sort_by", "")
    field = sort_by.removeprefix("-")
    if field not in _ORDERS or (field == "name" and "name" not in FILTERS[kind]):
        raise InvalidRequestError(f"Cannot sort by {field[:40]!r}.")
    return f"{_ORDERS[field]}{' DESC' if sort_by.startswith('-') else ''}, id"


def refuse_unknown(query: list[tuple[str, str]], known: frozenset[str]) -> None:
    """InvalidRequestError for an unknown or repeated field."""
    names = [name for name, _ in query]
    for name in names:
        if name not in known:
            raise InvalidRequestError(f"Unknown query field {name[:40]!r}.")
        if names.count(name) > 1:
            raise InvalidRequestError(f"Duplicate query field {name[:40]!r}.")


def among(ids: list[int]) -> SqlCondition:
    """Records with these ids."""
    import msgspec

    return SqlCondition("id IN (SELECT value FROM json_each(?))", (msgspec.json.encode(ids).decode(),))


def status(wanted: str, over: frozenset[str], open_ones: Mapping[int, Any]) -> SqlCondition:
    """Jobs with this status. It is stored for ended jobs; `open_ones` has the progress of the others by id."""
    if wanted in over:
        return SqlCondition("CAST(body AS TEXT) ->> '$.over.status' = ?", (wanted,))
    if wanted not in {"planned", "running"}:
        raise InvalidRequestError(f"Unknown status {wanted[:40]!r}.")
    known = among([number for number, progress in open_ones.items() if progress.status == wanted])
    not_begun = "CAST(body AS TEXT) ->> 'run' IS NULL" if wanted == "planned" else "0"
    return SqlCondition(
        f"CAST(body AS TEXT) ->> '$.over.status' IS NULL AND ({not_begun} OR {known.sql})", known.values
    )
