"""The Compute API's records: projects, algorithms, commits, files, batches and jobs.

Clients create seven records for one circuit. They are stored unchanged, with their center, in an SQLite file of the
job manager; jobs' states and results are in Slurm and the dispatcher's store. Files' texts have a table of their own,
so that lists do not read them. Each query has its own connection and a time limit, so that centers do not block each
other.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Literal

import msgspec

from qslurm.errors import InvalidInputError, QslurmError, RefusedError
from qslurm.system.sqlite_damage import damaged, is_damage

Kind = Literal["project", "algorithm", "commit", "file", "batch_job", "job"]

PARENTS: dict[Kind, tuple[Kind, str]] = {
    "algorithm": ("project", "project_id"),
    "commit": ("algorithm", "algorithm_id"),
    "file": ("commit", "commit_id"),
    "job": ("batch_job", "batch_job_id"),
}
"""The kind of a record's parent, and the field with the parent's id."""

MOST = 100_000
MOST_BYTES = 1 << 30
"""Maximum number and total bytes of a center's records."""
KEEP_S = 90 * 24 * 3600.0
"""Seconds for which records of a single job are kept, even when a center has reached its limit."""
QUERY_S = 5.0
"""Time limit of a query."""
AT_ONCE = 50
"""Records deleted in one transaction."""
_OF_ONE_JOB = ("commit", "file", "batch_job", "job")

_VERSION = 2
_SCHEMA = """
CREATE TABLE records (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    center TEXT NOT NULL, kind TEXT NOT NULL, created REAL NOT NULL, body BLOB NOT NULL, parent INTEGER
) STRICT;
CREATE INDEX records_by_kind ON records (center, kind, id);
"""
_CONTENTS = """
CREATE TABLE contents (record INTEGER PRIMARY KEY, text BLOB NOT NULL) STRICT;
CREATE INDEX records_by_parent ON records (parent) WHERE parent IS NOT NULL;
CREATE TRIGGER contents_go AFTER DELETE ON records BEGIN DELETE FROM contents WHERE record = old.id; END;
"""
_FROM_FIRST = """
ALTER TABLE records ADD COLUMN parent INTEGER;
UPDATE records SET parent = CAST(body AS TEXT) ->> CASE kind
    WHEN 'algorithm' THEN 'project_id' WHEN 'commit' THEN 'algorithm_id' WHEN 'file' THEN 'commit_id'
    ELSE 'batch_job_id' END;
"""
_CONTENTS_FROM_FIRST = """
INSERT INTO contents SELECT id, CAST(CAST(body AS TEXT) ->> 'content' AS BLOB) FROM records WHERE kind = 'file';
UPDATE records SET body = CAST(json_remove(CAST(body AS TEXT), '$.content') AS BLOB) WHERE kind = 'file';
"""
_SIZE = "length(body) + coalesce((SELECT length(text) FROM contents WHERE record = id), 0)"


class ApiRecord(msgspec.Struct, frozen=True):
    """A record: its id, its creation time (Unix seconds) and its fields."""

    id: int
    created: float
    fields: dict[str, Any]

    def __getitem__(self, name: str) -> Any:
        return self.fields[name]


class SqlCondition(msgspec.Struct, frozen=True):
    """A condition on `id`, `created` and `body` in SQL, with its values."""

    sql: str
    values: tuple[Any, ...] = ()


class ApiRecords:
    """The file of records. A center has access only to its own. Methods raise QslurmError if the file is unusable.

    A center may have `most` records of `most_bytes` in all; those of single jobs are kept for at least `keep_s`.
    """

    def __init__(
        self, path: str | Path, *, most: int = MOST, most_bytes: int = MOST_BYTES, keep_s: float = KEEP_S
    ) -> None:
        self._path = path
        self._most, self._most_bytes, self._keep_s = most, most_bytes, keep_s
        self._lock = threading.Lock()
        self._totals: dict[str, tuple[int, int]] = {}  # by center: records and bytes, without later growth
        try:
            Path(path).touch(mode=0o600)  # circuits are confidential
            self._database = sqlite3.connect(
                path, check_same_thread=False, isolation_level=None, timeout=10.0
            )
            self._database.execute("PRAGMA journal_mode = WAL")
            _set_up(self._database)
        except (sqlite3.Error, OSError) as error:
            if isinstance(error, sqlite3.Error) and is_damage(error):
                raise damaged(path, error) from error
            raise QslurmError(
                f"Cannot open the Compute API's records {path}: {error}.",
                hint="Check `compute` in [jobmanager].",
            ) from error

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def put(self, center: str, kind: Kind, fields: dict[str, Any], text: str | None = None) -> ApiRecord:
        """Create a record, for a file with its text. If the center's limit is reached, old jobs' records are deleted.

        RefusedError if that is not enough.
        """
        now, body = time.time(), msgspec.json.encode(fields)
        content = None if text is None else text.encode()
        size = len(body) + len(content or b"")
        parent = fields[PARENTS[kind][1]] if kind in PARENTS else None
        with self._changing():
            if not self._has_room(center, size):
                self._delete_old(center, now - self._keep_s)
                if not self._has_room(center, size):
                    raise RefusedError(
                        f"Limit reached: a center keeps at most {self._most} records and"
                        f" {self._most_bytes >> 20} MiB.",
                        hint="Delete projects that are no longer needed.",
                    )
            sql = "INSERT INTO records (center, kind, created, body, parent) VALUES (?, ?, ?, ?, ?) RETURNING id"
            [(number,)] = self._database.execute(sql, (center, kind, now, body, parent)).fetchall()
            if content is not None:
                self._database.execute("INSERT INTO contents VALUES (?, ?)", (number, content))
            count, known = self._totals[center]
            self._totals[center] = (count + 1, known + size)
        return ApiRecord(number, now, fields)

    def get(self, center: str, kind: Kind, number: int) -> ApiRecord | None:
        """A record; None if the center does not have it."""
        sql = "SELECT id, created, body FROM records WHERE id = ? AND center = ? AND kind = ?"
        with self._asking() as database:
            return next(map(_record, database.execute(sql, (number, center, kind))), None)

    def text(self, file: ApiRecord) -> str:
        """A file's text."""
        with self._asking() as database:
            row = database.execute("SELECT text FROM contents WHERE record = ?", (file.id,)).fetchone()
        return "" if row is None else row[0].decode()

    def inside(self, center: str, kind: Kind, parent: int) -> list[ApiRecord]:
        """The records of this kind with this parent, oldest first."""
        sql = "SELECT id, created, body FROM records WHERE parent = ? AND center = ? AND kind = ? ORDER BY id"
        with self._asking() as database:
            return list(map(_record, database.execute(sql, (parent, center, kind))))

    def count(self, center: str, kind: Kind, conditions: Sequence[SqlCondition]) -> tuple[int, int]:
        """The number of records that meet all conditions, and the bytes of the largest, with its text."""
        sql, values = _where(center, kind, conditions)
        with self._asking() as database:
            row = database.execute(f"SELECT count(*), coalesce(max({_SIZE}), 0) {sql}", values).fetchone()
        return row[0], row[1]

    def page(
        self, center: str, kind: Kind, conditions: Sequence[SqlCondition], *,
        order: str = "id", first: int = 0, most: int = -1,
    ) -> list[ApiRecord]:  # fmt: skip
        """The records of this kind that meet all conditions; `order` is trusted SQL."""
        sql, values = _where(center, kind, conditions)
        with self._asking() as database:
            rows = database.execute(
                f"SELECT id, created, body {sql} ORDER BY {order} LIMIT ? OFFSET ?",
                (*values, most, first),
            )
            return list(map(_record, rows))

    def update(self, center: str, record: ApiRecord, **fields: Any) -> ApiRecord:
        """Change fields of a record; a field with the parent's id moves the record there."""
        changed = msgspec.structs.replace(record, fields={**record.fields, **fields})
        parent = next((fields[field] for _, field in PARENTS.values() if field in fields), None)
        sql = "UPDATE records SET body = ?, parent = coalesce(?, parent) WHERE id = ? AND center = ?"
        with self._changing():
            body = msgspec.json.encode(changed.fields)
            self._database.execute(sql, (body, parent, record.id, center))
        return changed

    def delete_project(self, center: str, number: int) -> None:
        """Delete a project with its algorithms, commits and files.

        Children are deleted first, in small transactions, so that others do not wait and an interrupted deletion can be
        repeated.
        """
        sql = """
            WITH RECURSIVE doomed(id, depth) AS (
                SELECT id, 0 FROM records WHERE id = ? AND center = ? AND kind = 'project'
                UNION SELECT records.id, depth + 1 FROM records JOIN doomed ON records.parent = doomed.id
                WHERE center = ? AND kind IN ('algorithm', 'commit', 'file'))
            SELECT id FROM doomed ORDER BY depth DESC"""
        with self._asking() as database:
            doomed = [one for (one,) in database.execute(sql, (number, center, center))]
        for start in range(0, len(doomed), AT_ONCE):
            with self._changing():
                self._totals.pop(center, None)
                ids = msgspec.json.encode(doomed[start : start + AT_ONCE]).decode()
                self._database.execute(
                    "DELETE FROM records WHERE id IN (SELECT value FROM json_each(?))", (ids,)
                )

    def _has_room(self, center: str, more: int) -> bool:
        known = self._totals.get(center)
        if known is None:
            sql = f"SELECT count(*), coalesce(sum({_SIZE}), 0) FROM records WHERE center = ?"  # noqa: S608 - a constant
            known = self._totals[center] = self._database.execute(sql, (center,)).fetchone()
        count, size = known
        return count < self._most and size + more <= self._most_bytes

    def _delete_old(self, center: str, before: float) -> None:
        self._totals.pop(center, None)
        for kind in _OF_ONE_JOB:
            sql = "DELETE FROM records WHERE center = ? AND kind = ? AND created < ?"
            self._database.execute(sql, (center, kind, before))

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """A transaction."""
        with self._lock:
            try:
                self._database.execute("BEGIN IMMEDIATE")
                yield
                self._database.execute("COMMIT")
            except BaseException as error:
                self._totals.clear()
                if self._database.in_transaction:
                    self._database.execute("ROLLBACK")
                if isinstance(error, sqlite3.Error):
                    raise self._unusable(error) from error
                raise

    @contextmanager
    def _asking(self) -> Iterator[sqlite3.Connection]:
        until = time.monotonic() + QUERY_S
        try:
            with closing(sqlite3.connect(self._path, isolation_level=None, timeout=10.0)) as database:
                database.execute("PRAGMA query_only = ON")
                database.set_progress_handler(lambda: time.monotonic() > until, 10_000)
                yield database
        except sqlite3.Error as error:
            if time.monotonic() > until:
                raise InvalidInputError(
                    "Searching your center's records took too long. Request them by id.",
                    hint="Delete projects that are no longer needed.",
                ) from error
            raise self._unusable(error) from error

    def _unusable(self, error: sqlite3.Error) -> QslurmError:
        if is_damage(error):
            return damaged(self._path, error)
        return QslurmError(f"Cannot use the Compute API's records: {error}.")


def _set_up(database: sqlite3.Connection) -> None:
    """Create the tables, or migrate those of an earlier version."""
    (version,) = database.execute("PRAGMA user_version").fetchone()
    if version == _VERSION:
        return
    if version > _VERSION:
        raise sqlite3.DatabaseError(f"its format is version {version}, this program supports {_VERSION}")
    known = database.execute("SELECT 1 FROM sqlite_master WHERE name = 'records'").fetchone()
    steps = [_FROM_FIRST, _CONTENTS, _CONTENTS_FROM_FIRST] if known else [_SCHEMA, _CONTENTS]
    database.executescript(f"BEGIN; {''.join(steps)} PRAGMA user_version = {_VERSION}; COMMIT;")


def _where(center: str, kind: Kind, conditions: Sequence[SqlCondition]) -> tuple[str, tuple[Any, ...]]:
    sql = "FROM records WHERE center = ? AND kind = ?" + "".join(f" AND ({one.sql})" for one in conditions)
    return sql, (center, kind, *(value for one in conditions for value in one.values))


def _record(row: tuple[int, float, bytes]) -> ApiRecord:
    return ApiRecord(row[0], row[1], msgspec.json.decode(row[2]))
