"""What clients of the Compute API have put here: projects, algorithms, commits, files, batches and jobs.

The API makes seven records of one circuit. They are kept as they came, each with its owner, in an SQLite file of the
job manager's own; what became of a job is not in it, but in Slurm and in the dispatcher's store.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from pathlib import Path
from typing import Any, Literal

import msgspec

from qslurm.errors import QslurmError, RefusedError
from qslurm.store.damage import damaged, is_damage

Kind = Literal["project", "algorithm", "commit", "file", "batch_job", "job"]

MOST = 100_000
MOST_BYTES = 1 << 30
"""Records that one center may have, and their size in all."""
KEEP_S = 90 * 24 * 3600.0
"""Seconds for which what was made for one job stays, even when a center has no room for more."""
_OF_ONE_JOB = ("commit", "file", "batch_job", "job")

_SCHEMA = """
CREATE TABLE IF NOT EXISTS records (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    center TEXT NOT NULL, kind TEXT NOT NULL, created REAL NOT NULL, body BLOB NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS records_by_kind ON records (center, kind, id);
"""


class Record(msgspec.Struct, frozen=True):
    """One record: its number, when it was made (Unix seconds), and its fields."""

    id: int
    created: float
    fields: dict[str, Any]

    def __getitem__(self, name: str) -> Any:
        return self.fields[name]


class Records:
    """The file. Nobody sees what another center has put there. QslurmError if it can't be used."""

    def __init__(self, path: str | Path) -> None:
        self._lock = threading.Lock()
        self._path = path
        self._totals: dict[
            str, tuple[int, int]
        ] = {}  # by center; records that grow a little later don't count
        try:
            Path(path).touch(mode=0o600)  # circuits are their center's own
            self._database = sqlite3.connect(
                path, check_same_thread=False, isolation_level=None, timeout=10.0
            )
            self._database.execute("PRAGMA journal_mode = WAL")
            self._database.executescript(_SCHEMA)
        except (sqlite3.Error, OSError) as error:
            if isinstance(error, sqlite3.Error) and is_damage(error):
                raise damaged(path, error) from error
            raise QslurmError(
                f"The Compute API's records {path} can't be opened: {error}.",
                hint="See `compute` in [jobmanager].",
            ) from error

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def put(self, center: str, kind: Kind, fields: dict[str, Any]) -> Record:
        """Keep a new record. Where there is no room, old jobs' make some; RefusedError when that is not enough."""
        now, body = time.time(), msgspec.json.encode(fields)
        if not self._has_room(center, len(body)):
            self._forget_old(center, now - KEEP_S)
            if not self._has_room(center, len(body)):
                raise RefusedError(
                    f"Your center can't keep more than {MOST} records, or {MOST_BYTES >> 20} MiB, here.",
                    hint="Delete projects that nobody needs any more.",
                )
        sql = "INSERT INTO records (center, kind, created, body) VALUES (?, ?, ?, ?) RETURNING id"
        rows = self._do(sql, center, kind, now, body)
        if (known := self._totals.get(center)) is not None:
            self._totals[center] = (known[0] + 1, known[1] + len(body))
        return Record(rows[0][0], now, fields)

    def _has_room(self, center: str, more: int) -> bool:
        known = self._totals.get(center)
        if known is None:
            sql = "SELECT count(*), coalesce(sum(length(body)), 0) FROM records WHERE center = ?"
            known = self._totals[center] = self._do(sql, center)[0]
        count, size = known
        return count < MOST and size + more <= MOST_BYTES

    def _forget_old(self, center: str, before: float) -> None:
        self._totals.pop(center, None)
        for kind in _OF_ONE_JOB:
            self._do(
                "DELETE FROM records WHERE center = ? AND kind = ? AND created < ?", center, kind, before
            )

    def get(self, center: str, kind: Kind, number: int) -> Record | None:
        """A record, if the center has it."""
        sql = "SELECT id, created, body FROM records WHERE id = ? AND center = ? AND kind = ?"
        return next(map(_record, self._do(sql, number, center, kind)), None)

    def all(self, center: str, kind: Kind) -> list[Record]:
        """All of a kind, oldest first."""
        sql = "SELECT id, created, body FROM records WHERE center = ? AND kind = ? ORDER BY id"
        return list(map(_record, self._do(sql, center, kind)))

    def where(self, center: str, kind: Kind, field: str, value: int) -> list[Record]:
        """Those of a kind that belong to another record."""
        sql = (
            "SELECT id, created, body FROM records WHERE center = ? AND kind = ?"
            " AND CAST(body AS TEXT) ->> ? = ? ORDER BY id"
        )
        return list(map(_record, self._do(sql, center, kind, field, value)))

    def update(self, center: str, record: Record, **fields: Any) -> Record:
        """Change fields of a record."""
        changed = msgspec.structs.replace(record, fields={**record.fields, **fields})
        sql = "UPDATE records SET body = ? WHERE id = ? AND center = ?"
        self._do(sql, msgspec.json.encode(changed.fields), record.id, center)
        return changed

    def delete(self, center: str, number: int) -> None:
        """Remove a record."""
        self._totals.pop(center, None)
        self._do("DELETE FROM records WHERE id = ? AND center = ?", number, center)

    def _do(self, sql: str, *values: Any) -> list[Any]:
        with self._lock:
            try:
                return self._database.execute(sql, values).fetchall()
            except sqlite3.Error as error:
                if is_damage(error):
                    raise damaged(self._path, error) from error
                raise QslurmError(f"The Compute API's records can't be used: {error}.") from error


def _record(row: tuple[int, float, bytes]) -> Record:
    return Record(row[0], row[1], msgspec.json.decode(row[2]))
