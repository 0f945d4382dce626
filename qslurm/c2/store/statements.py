"""The store's schema and the statements that write to it; each function returns the SQL and its values."""

from __future__ import annotations

from typing import Any

Statement = tuple[str, tuple[Any, ...]]

VERSION = 4
"""The schema's version, `user_version` in the file."""

SCHEMA = """
CREATE TABLE tasks (
    id INTEGER PRIMARY KEY,
    center TEXT NOT NULL, job_id INTEGER NOT NULL, restart INTEGER NOT NULL, key TEXT NOT NULL,
    kind TEXT NOT NULL, backend TEXT NOT NULL, name TEXT NOT NULL,
    user TEXT NOT NULL, uid INTEGER NOT NULL, account TEXT NOT NULL, origin TEXT NOT NULL,
    envelope BLOB,                      -- MessagePack; gone once the task has ended
    client TEXT NOT NULL DEFAULT '',    -- the job step that attached
    state TEXT NOT NULL, reason TEXT NOT NULL DEFAULT '',
    admitted_at REAL NOT NULL, started_at REAL, finished_at REAL,
    slurm_state TEXT NOT NULL DEFAULT '', exit_code INTEGER,
    final_result TEXT                   -- JSON
);
CREATE INDEX tasks_of_job ON tasks (job_id, id);
CREATE INDEX tasks_of_key ON tasks (center, key) WHERE key <> '';
CREATE INDEX tasks_of_center ON tasks (center, id);
CREATE INDEX tasks_open ON tasks (state) WHERE state IN ('admitted', 'running');
CREATE TABLE executions (
    task INTEGER NOT NULL, seq INTEGER NOT NULL, circuit_sha256 TEXT NOT NULL,
    shots_requested INTEGER NOT NULL, shots_done INTEGER NOT NULL DEFAULT 0,
    counts TEXT, raw_data TEXT,         -- JSON
    seconds REAL NOT NULL DEFAULT 0.0,
    state TEXT NOT NULL, reason TEXT NOT NULL DEFAULT '', error_kind TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (task, seq)
);
CREATE TABLE journal (
    id INTEGER PRIMARY KEY, at REAL NOT NULL, task INTEGER NOT NULL, seq INTEGER, state TEXT NOT NULL,
    reason TEXT NOT NULL DEFAULT ''
);
CREATE TABLE backends (
    name TEXT PRIMARY KEY, offline INTEGER NOT NULL, reason TEXT NOT NULL, since REAL NOT NULL
);
"""

RESERVATIONS = """
CREATE TABLE reservations (
    id INTEGER PRIMARY KEY AUTOINCREMENT, backend TEXT NOT NULL, begins REAL NOT NULL, ends REAL NOT NULL,
    center TEXT NOT NULL, job_id INTEGER NOT NULL, reason TEXT NOT NULL
);
"""

HANDED_OUT = """
CREATE TABLE handed_out (                -- orders under way at quantum runtimes on other hosts
    number INTEGER PRIMARY KEY, task INTEGER NOT NULL, seq INTEGER NOT NULL, holder TEXT NOT NULL
);
"""

REASON_CODES = """
ALTER TABLE tasks ADD COLUMN reason_code TEXT NOT NULL DEFAULT '';
UPDATE tasks SET reason_code = 'end_unknown'
    WHERE state = 'failed' AND reason LIKE 'C2''s Slurm was killed while the job ran%';
UPDATE tasks SET reason_code = 'used_up' WHERE state = 'timed_out' AND reason LIKE '%has used its % QPU-seconds%';
UPDATE tasks SET reason_code = 'idle_limit' WHERE state = 'timed_out' AND reason LIKE '%, its idle limit.';
"""
"""Until version 3, programs evaluated the sentences; these are the sentences of that version."""

STEPS = {
    0: SCHEMA + RESERVATIONS + HANDED_OUT + REASON_CODES,
    1: RESERVATIONS + HANDED_OUT + REASON_CODES,
    2: HANDED_OUT + REASON_CODES,
    3: REASON_CODES,
}
"""Statements to migrate from each version of the schema; version 0 is an empty file."""

TASK_COLUMNS = (
    "id", "center", "job_id", "restart", "key", "kind", "backend", "name", "user", "uid", "account", "origin",
    "envelope", "client", "state", "reason", "admitted_at", "started_at", "finished_at", "slurm_state",
    "exit_code", "final_result", "reason_code",
)  # fmt: skip


def insert_task(values: dict[str, Any]) -> Statement:
    """Insert a task; `values` has each of TASK_COLUMNS."""
    marks = ", ".join("?" * len(TASK_COLUMNS))
    return (
        f"INSERT INTO tasks ({', '.join(TASK_COLUMNS)}) VALUES ({marks})",  # noqa: S608 - names of columns only
        tuple(values[name] for name in TASK_COLUMNS),
    )


def update_task(task: int, **values: Any) -> Statement:
    """Update columns of a task."""
    unknown = values.keys() - set(TASK_COLUMNS)
    if unknown:
        raise ValueError(f"tasks have no {sorted(unknown)}")
    columns = ", ".join(f"{name} = ?" for name in values)
    return f"UPDATE tasks SET {columns} WHERE id = ?", (*values.values(), task)  # noqa: S608 - checked above


def insert_execution(task: int, seq: int, *, circuit_sha256: str, shots: int, state: str) -> Statement:
    """Insert an execution, or replace one that is repeated after the dispatcher was killed."""
    return (
        "INSERT OR REPLACE INTO executions (task, seq, circuit_sha256, shots_requested, state) "
        "VALUES (?, ?, ?, ?, ?)",
        (task, seq, circuit_sha256, shots, state),
    )


def update_execution(task: int, seq: int, state: str) -> Statement:
    """Update an execution's state."""
    return "UPDATE executions SET state = ? WHERE task = ? AND seq = ?", (state, task, seq)


def end_execution(
    task: int, seq: int, *, state: str, shots_done: int, counts: str, raw_data: str | None, seconds: float,
    reason: str, error_kind: str,
) -> Statement:  # fmt: skip
    """Set an execution's result (`counts` and `raw_data` as JSON), or the reason of its failure."""
    return (
        "UPDATE executions SET state = ?, shots_done = ?, counts = ?, raw_data = ?, seconds = ?, reason = ?, "
        "error_kind = ? WHERE task = ? AND seq = ?",
        (state, shots_done, counts, raw_data, seconds, reason, error_kind, task, seq),
    )


def copy_executions(source: int, target: int) -> Statement:
    """Copy the results of another start of the same submission to a task."""
    columns = "seq, circuit_sha256, shots_requested, shots_done, counts, raw_data, state, reason, error_kind"
    return (
        f"INSERT INTO executions (task, {columns}) "  # noqa: S608 - names of columns only
        f"SELECT ?, {columns} FROM executions WHERE task = ? AND state = 'done'",
        (target, source),
    )


def insert_journal_entry(at: float, task: int, seq: int | None, state: str, reason: str = "") -> Statement:
    """Insert a journal entry."""
    return "INSERT INTO journal (at, task, seq, state, reason) VALUES (?, ?, ?, ?, ?)", (
        at,
        task,
        seq,
        state,
        reason,
    )


def set_backend(name: str, *, offline: bool, reason: str, since: float) -> Statement:
    """Store an operator's setting of a backend."""
    return "INSERT OR REPLACE INTO backends VALUES (?, ?, ?, ?)", (name, offline, reason, since)


def insert_order(number: int, task: int, seq: int, holder: str) -> Statement:
    """Store an order assigned to another host; `holder` is the public key of the runtime that may answer it."""
    return "INSERT OR REPLACE INTO handed_out VALUES (?, ?, ?, ?)", (number, task, seq, holder)


def delete_order(number: int) -> Statement:
    """Delete an order that is answered or withdrawn."""
    return "DELETE FROM handed_out WHERE number = ?", (number,)


def insert_reservation(values: dict[str, Any]) -> Statement:
    """Insert a reservation; `values` are its fields."""
    names = ("id", "backend", "begins", "ends", "center", "job_id", "reason")
    return "INSERT INTO reservations VALUES (?, ?, ?, ?, ?, ?, ?)", tuple(values[name] for name in names)


def delete_reservation(number: int) -> Statement:
    """Delete a reservation; its id is never reused."""
    return "DELETE FROM reservations WHERE id = ?", (number,)
