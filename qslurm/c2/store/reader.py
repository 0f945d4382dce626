"""Reads the store for the job manager and for operators, while the dispatcher writes it.

Each query opens the file read-only. That takes a fraction of a millisecond, holds no lock between queries, and still
works when the dispatcher or the file was replaced.

Results are not read to list jobs, and are passed on as stored JSON: parsed nested lists take eighty times the memory.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec

from qslurm.c2.store.task_records import ExecutionRecord, TaskRecord, UsageRecord
from qslurm.errors import QslurmError
from qslurm.system.sqlite_damage import damaged, is_damage

LONGEST_REASON = 4000
"""Characters of a reason that are read; a job step can send millions."""

_TASK = f"""
SELECT id, center, job_id, restart, key, kind, backend, name, user, account, origin, state,
       substr(reason, 1, {LONGEST_REASON}), reason_code, admitted_at, started_at, finished_at, slurm_state, exit_code,
       (SELECT count(*) FROM executions e WHERE e.task = tasks.id AND e.state = 'done'),
       (SELECT coalesce(sum(shots_done), 0) FROM executions e WHERE e.task = tasks.id),
       (SELECT coalesce(sum(seconds), 0.0) FROM executions e WHERE e.task = tasks.id)
FROM tasks
"""  # noqa: S608 - a number of ours

_USAGE = """
SELECT origin, account, backend, count(DISTINCT job_id || ' ' || key), sum(done), sum(shots), sum(seconds)
FROM (SELECT tasks.*,
             (SELECT count(*) FROM executions e WHERE e.task = tasks.id AND e.state = 'done') AS done,
             (SELECT coalesce(sum(shots_done), 0) FROM executions e WHERE e.task = tasks.id) AS shots,
             (SELECT coalesce(sum(seconds), 0.0) FROM executions e WHERE e.task = tasks.id) AS seconds
      FROM tasks WHERE center = ? AND coalesce(finished_at, started_at, admitted_at) BETWEEN ? AND ?)
GROUP BY origin, account, backend
"""

_EXECUTIONS = """
SELECT seq, shots_requested, shots_done, counts, raw_data, seconds, state, reason
FROM executions WHERE task = ? ORDER BY seq
"""

_RESULTS = """
SELECT seq, shots_requested, shots_done, counts, raw_data, seconds, state, reason
FROM executions WHERE task = ? AND state = 'done' ORDER BY seq LIMIT ? OFFSET ?
"""

MOST_STARTS = 2000
"""The most starts of a submission that are read, newest first: an array has 1000 tasks, which may restart."""


class Reader:
    """Queries about tasks; QslurmError if the store is missing or cannot be read."""

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path)

    def task(self, center: str, job_id: int) -> TaskRecord | None:
        """The newest task of a center with that job id."""
        where = "WHERE center = ? AND job_id = ? ORDER BY id DESC LIMIT 1"
        rows = self._rows(_TASK + where, (center, job_id))
        return _task(rows[0]) if rows else None

    def tasks(self, center: str, limit: int = 100) -> list[TaskRecord]:
        """A center's tasks, newest first."""
        return [
            _task(row)
            for row in self._rows(_TASK + "WHERE center = ? ORDER BY id DESC LIMIT ?", (center, limit))
        ]

    def starts(self, center: str, key: str) -> list[TaskRecord]:
        """Every start of a submission, or of any task of an array, newest first; the key of a task is `KEY#INDEX`."""
        where = (
            "WHERE center = ? AND key <> '' AND (key = ? OR (key >= ? AND key < ?)) ORDER BY id DESC LIMIT ?"
        )
        values = (center, key, f"{key}#", f"{key}$", MOST_STARTS)  # $ is the letter after #
        return [_task(row) for row in self._rows(_TASK + where, values)]

    def tasks_of(self, center: str, job_ids: Sequence[int]) -> list[TaskRecord]:
        """The newest task of a center for each of these job ids (at most 1000), where there is one."""
        where = f"WHERE center = ? AND job_id IN ({','.join('?' * len(job_ids))}) ORDER BY id"
        newest = {row[2]: row for row in self._rows(_TASK + where, (center, *job_ids))}
        return [_task(newest[job_id]) for job_id in job_ids if job_id in newest]

    def usage(self, center: str, since: float, until: float) -> list[UsageRecord]:
        """The use of a center's jobs that ended, or changed last, in this time (Unix seconds)."""
        names = UsageRecord.__struct_fields__
        rows = self._rows(_USAGE, (center, since, until))
        return [UsageRecord(**dict(zip(names, row, strict=True))) for row in rows]

    def final_result(self, task: TaskRecord) -> msgspec.Raw | None:
        """A task's final result, as JSON."""
        [(text,)] = self._rows("SELECT final_result FROM tasks WHERE id = ?", (task.id,)) or [(None,)]
        return _raw(text)

    def executions(self, task: TaskRecord) -> list[ExecutionRecord]:
        """All executions of a task, in order."""
        return [_execution(row) for row in self._rows(_EXECUTIONS, (task.id,))]

    def results(self, task: TaskRecord, first: int = 0, most: int = 1) -> list[ExecutionRecord]:
        """A task's executions with a result, in order, from an offset on."""
        return [_execution(row) for row in self._rows(_RESULTS, (task.id, most, first))]

    def largest_result(self, task: TaskRecord) -> int:
        """An upper bound of the size of a task's results, in bytes."""
        size = "coalesce(max(length(counts) + coalesce(length(raw_data), 0)), 0)"
        sql = f"SELECT {size} FROM executions WHERE task = ? AND state = 'done'"  # noqa: S608 - ours
        return int(self._rows(sql, (task.id,))[0][0])

    def _rows(self, query: str, values: tuple[Any, ...]) -> list[tuple[Any, ...]]:
        try:
            with self._open() as connection:
                return connection.execute(query, values).fetchall()
        except sqlite3.Error as error:
            if is_damage(error):
                raise damaged(self._path, error) from error
            raise QslurmError(
                f"Cannot read the store {self._path}: {error}.",
                hint="Check that the dispatcher is running and that this user may read the file.",
            ) from error

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        # Without a write-ahead log there is no writer; `immutable` keeps SQLite from creating one.
        idle = not self._path.with_name(self._path.name + "-wal").exists()
        uri = f"file:{quote(str(self._path.absolute()))}?mode=ro" + ("&immutable=1" if idle else "")
        connection = sqlite3.connect(uri, uri=True, timeout=5.0)
        try:
            yield connection
        finally:
            connection.close()


def _task(row: tuple[Any, ...]) -> TaskRecord:
    return TaskRecord(**dict(zip(TaskRecord.__struct_fields__, row, strict=True)))


def _execution(row: tuple[Any, ...]) -> ExecutionRecord:
    values = dict(zip(ExecutionRecord.__struct_fields__, row, strict=True))
    values["counts"] = _raw(values["counts"] or "{}")
    values["raw_data"] = _raw(values["raw_data"])
    return ExecutionRecord(**values)


def _raw(text: str | None) -> msgspec.Raw | None:
    return None if text is None else msgspec.Raw(text.encode())
