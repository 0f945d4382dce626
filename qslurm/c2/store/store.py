"""The store of the dispatcher, its only writer: SQLite with a write-ahead log.

Commits survive a kill -9 of any process. A power cut may lose the last commits, but no commit with `sync` and none
before it, and never the file's integrity (docs/decisions/durability.md).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from qslurm.c2.store.statements import STEPS, VERSION, Statement
from qslurm.errors import QslurmError
from qslurm.system.sqlite_damage import damaged, is_damage

Row = dict[str, Any]


class Store:
    """Opens or creates the store; QslurmError if it cannot be used. An empty path keeps it in memory."""

    def __init__(self, path: str = "") -> None:
        self._path = path or "in memory"
        try:
            self._connection = _open(path)
            self._synced: bool | None = None  # as the last commit
        except (sqlite3.Error, OSError) as error:
            if isinstance(error, sqlite3.Error) and is_damage(error):
                raise damaged(path, error) from error
            raise QslurmError(
                f"Cannot open the store {self._path}: {error}.",
                hint="Check that its directory exists, is writable for this user, and has free space.",
            ) from error

    def commit(self, statements: Iterable[Statement], *, sync: bool = False) -> str:
        """Write all statements or none; with `sync` they are on the disk when it returns.

        Returns "" or the reason why the store cannot be written at the moment.
        """
        try:
            if sync != self._synced:
                self._connection.execute(f"PRAGMA synchronous = {'FULL' if sync else 'NORMAL'}")
                self._synced = sync
            self._connection.execute("BEGIN IMMEDIATE")
            for sql, values in statements:
                self._connection.execute(sql, values)
            self._connection.execute("COMMIT")
        except sqlite3.DatabaseError as error:  # full, I/O error, locked: an operator can resolve it
            if not isinstance(error, sqlite3.OperationalError) and not is_damage(error):
                raise
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            return damaged(self._path, error).message if is_damage(error) else str(error)
        return ""

    def open_tasks(self) -> list[Row]:
        """Tasks that have not ended, oldest first."""
        return self._rows("SELECT * FROM tasks WHERE state IN ('admitted', 'running') ORDER BY id")

    def tasks_of_job(self, job_id: int) -> list[Row]:
        """Every task with that C2 job id, newest first."""
        return self._rows("SELECT * FROM tasks WHERE job_id = ? ORDER BY id DESC LIMIT 64", job_id)

    def tasks_of_key(self, center: str, key: str) -> list[Row]:
        """Every task of one submission, newest first."""
        return self._rows(
            "SELECT * FROM tasks WHERE center = ? AND key = ? AND key <> '' ORDER BY id DESC LIMIT 64",
            center,
            key,
        )

    def executions(self, task: int) -> list[Row]:
        """A task's executions without their results."""
        return self._rows(
            "SELECT seq, circuit_sha256, shots_requested, shots_done, seconds, state "
            "FROM executions WHERE task = ?",
            task,
        )

    def execution(self, task: int, seq: int) -> Row | None:
        """One execution with its result."""
        rows = self._rows("SELECT * FROM executions WHERE task = ? AND seq = ?", task, seq)
        return rows[0] if rows else None

    def backends(self) -> list[Row]:
        """The backends that operators have set offline or online."""
        return self._rows("SELECT * FROM backends")

    def handed_out(self) -> list[Row]:
        """The orders assigned to runtimes on other hosts."""
        return self._rows("SELECT * FROM handed_out")

    def reservations(self) -> list[Row]:
        """The reservations."""
        return self._rows("SELECT * FROM reservations ORDER BY id")

    def last_reservation(self) -> int:
        """The highest id of any reservation so far, or 0."""
        rows = self._rows("SELECT seq FROM sqlite_sequence WHERE name = 'reservations'")
        return int(rows[0]["seq"]) if rows else 0

    def knows_center(self, center: str) -> bool:
        """Whether the store has a task of that center."""
        return bool(self._rows("SELECT 1 FROM tasks WHERE center = ? LIMIT 1", center))

    def used(self, backend: str, since: float) -> list[Row]:
        """The QPU-seconds of each task of a backend that ended after `since`, or is open: center, at, seconds."""
        return self._rows(
            "SELECT center, coalesce(finished_at, started_at, admitted_at) AS at, sum(seconds) AS seconds "
            "FROM tasks JOIN executions ON task = tasks.id "
            "WHERE backend = ? AND coalesce(finished_at, started_at, admitted_at) > ? "
            "GROUP BY tasks.id HAVING sum(seconds) > 0",
            backend,
            since,
        )

    def last_task(self) -> int:
        """The highest task id so far, or 0."""
        return int(self._rows("SELECT coalesce(max(id), 0) AS id FROM tasks")[0]["id"])

    def journal(self, task: int) -> list[Row]:
        """A task's transitions, oldest first."""
        return self._rows("SELECT at, seq, state, reason FROM journal WHERE task = ? ORDER BY id", task)

    def limit_pages(self, pages: int) -> int:
        """Limit the file to that many pages (of 4 KiB). Returns how many it has."""
        self._connection.execute(f"PRAGMA max_page_count = {int(pages)}")
        return int(self._rows("PRAGMA page_count")[0]["page_count"])

    def close(self) -> None:
        """Close the store; SQLite merges the write-ahead log into the file."""
        self._connection.close()

    def _rows(self, query: str, *values: Any) -> list[Row]:
        try:
            return [dict(row) for row in self._connection.execute(query, values).fetchall()]
        except sqlite3.DatabaseError as error:
            if is_damage(error):
                raise damaged(self._path, error) from error
            raise


def _open(path: str) -> sqlite3.Connection:
    if path:
        # SQLite gives its log and index the mode of the file: readable by the group.
        file = Path(path)
        if not file.exists():
            file.touch(mode=0o600)
            file.chmod(0o640)  # whatever the umask is
    # Tests use the store from the thread of the main loop.
    connection = sqlite3.connect(
        path or ":memory:", isolation_level=None, timeout=1.0, check_same_thread=False
    )
    connection.row_factory = sqlite3.Row
    connection.execute("PRAGMA journal_mode = WAL")
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    if version in STEPS:
        connection.executescript(f"BEGIN; {STEPS[version]} PRAGMA user_version = {VERSION}; COMMIT;")
    elif version != VERSION:
        connection.close()
        raise QslurmError(
            f"The store {path} has format version {version}; this program supports version {VERSION}.",
            hint="Use the qslurm that wrote it, or move the file away.",
        )
    return connection
