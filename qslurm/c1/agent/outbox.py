"""The outbox: a SQLite database of all submissions, from before C2 knows them until they end.

A submission is on disk before its user is answered and before it is sent. One that is `sending` when the agent starts
may have reached C2: it is looked up by its key first.
"""

from __future__ import annotations

import json
import os
import sqlite3
import threading
import time
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from qslurm.c1.agent.group_commit import Commits
from qslurm.c1.agent.outbox_file import (
    PAYLOADS_SPLIT,
    RESENDS_COUNTED,
    SCHEMA,
    SUMMARY_FIELDS,
    TO_3,
    TO_5,
    VERSION,
    connect,
    lock_outbox,
    opening_errors,
    outbox_path,
    storage_errors,
)
from qslurm.errors import ConfigError, NoRoomError, QslurmError

EntryState = Literal["waiting", "sending", "accepted", "refused", "lost"]

MAX_VALUES = 500
"""Maximum values in one query; SQLite has a limit."""

NEWEST = " ORDER BY number DESC LIMIT 1"
_COLUMNS = "number, key, user, payload, state, job_id, answer, ended, created, accepted, resent"


@dataclass(frozen=True)
class Entry:
    """A submission. `answer` holds C2's warnings and message, or the error of a refusal.

    A `lost` one was lost by C2 too often and is not resubmitted. `created` and `accepted` (last) are Unix seconds;
    `resent` counts resubmissions. `payload` is complete only from `next_to_send`, else it has the SUMMARY_FIELDS only.
    """

    number: int
    key: str
    user: str
    payload: dict[str, Any]
    state: EntryState
    job_id: int | None = None
    answer: dict[str, Any] = field(default_factory=dict)
    ended: bool = False
    created: float = 0.0
    accepted: float | None = None
    resent: int = 0


@dataclass(frozen=True)
class EntryStatus:
    """An entry without its payload."""

    user: str
    state: EntryState
    job_id: int | None
    ended: bool
    answer: dict[str, Any]


class Outbox:
    """All submissions of a center. Thread-safe; a change is on disk when its method returns."""

    def __init__(self, folder: Path) -> None:
        self._lock, self._reader_lock = threading.Lock(), threading.Lock()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock_descriptor: int | None = lock_outbox(folder / "outbox.lock")
        self._path = path = outbox_path(folder)
        path.touch(mode=0o600)
        try:
            with opening_errors(path):
                self._store = connect(path)
                self._store.execute("PRAGMA journal_mode = WAL")
                version = self._store.execute("PRAGMA user_version").fetchone()[0]
                if 0 < version < PAYLOADS_SPLIT:
                    self._store.executescript(TO_3)
                if 0 < version < RESENDS_COUNTED:
                    self._store.executescript(TO_5)
                if version < VERSION:  # else readable on a full disk
                    self._store.executescript(SCHEMA)
                # reads do not wait for commits, and see committed data only
                self._reader = connect(path)
                self._reader.execute("PRAGMA query_only = ON")
        except QslurmError:
            os.close(self._lock_descriptor)
            raise
        self._commits = Commits(self._store, self._lock)
        if version > VERSION:
            self.close()
            raise ConfigError(
                f"The outbox {path} was written by a newer version of qslurm.",
                hint="Install that version, or a newer one.",
            )

    def close(self) -> None:
        """Close the file."""
        with self._reader_lock:
            self._reader.close()
        with self._lock:
            self._store.close()
            if self._lock_descriptor is not None:
                os.close(self._lock_descriptor)
            self._lock_descriptor = None

    def add(self, key: str, user: str, payload: dict[str, Any]) -> Entry:
        """The submission with this key, added as waiting if it is new; NoRoomError if the disk is full."""
        text, now = json.dumps(payload), time.time()
        summary = {"job": {name: payload["job"][name] for name in SUMMARY_FIELDS if name in payload["job"]}}

        def insert(store: sqlite3.Connection) -> int | None:
            new = store.execute(
                "INSERT INTO submissions (key, user, payload, state, created) VALUES (?, ?, ?, 'waiting', ?) "
                "ON CONFLICT (key) DO NOTHING",
                (key, user, json.dumps(summary), now),
            )
            if new.rowcount != 1:
                return None
            store.execute("INSERT INTO payloads VALUES (?, ?)", (new.lastrowid, text))
            return new.lastrowid

        try:
            with storage_errors(self._path):
                number = self._commits.make(insert)
        except NoRoomError as error:
            raise NoRoomError(
                "The disk of the center's agent is full; the job was not submitted.",
                hint="Tell the center's admins, and submit it again later.",
            ) from error
        if number is not None:
            return Entry(number, key, user, summary, "waiting", created=now)
        entry = self.by_key(key)
        assert entry is not None
        return entry

    def mark_sending(self, number: int) -> bool:
        """Mark it as being sent; False if it was cancelled meanwhile."""
        return self._change(
            "UPDATE submissions SET state = 'sending' WHERE number = ? AND state IN ('waiting', 'sending')",
            (number,),
        )

    def mark_waiting(self, number: int) -> None:
        """Mark it as not sent."""
        self._change("UPDATE submissions SET state = 'waiting' WHERE number = ?", (number,))

    def mark_accepted(self, number: int, job_id: int, answer: dict[str, Any]) -> None:
        """Mark it as accepted, with its job id."""
        self._change(
            "UPDATE submissions SET state = 'accepted', job_id = ?, answer = ?, accepted = ? WHERE number = ?",
            (job_id, json.dumps(answer), time.time(), number),
        )

    def mark_for_resubmission(self, number: int) -> None:
        """Mark a lost job that has not run for resubmission."""

        def forget(store: sqlite3.Connection) -> None:
            store.execute(
                "INSERT OR IGNORE INTO former SELECT job_id, number FROM submissions "
                "WHERE number = ? AND job_id IS NOT NULL",
                (number,),
            )
            store.execute(
                "UPDATE submissions SET state = 'waiting', job_id = NULL, resent = resent + 1 "
                "WHERE number = ? AND state = 'accepted' AND ended = 0",
                (number,),
            )

        with storage_errors(self._path):
            self._commits.make(forget)

    def mark_lost(self, number: int) -> None:
        """Mark a job as lost for good: it is not resubmitted."""

        def lose(store: sqlite3.Connection) -> None:
            store.execute("UPDATE submissions SET state = 'lost', ended = 1 WHERE number = ?", (number,))
            store.execute("DELETE FROM payloads WHERE number = ?", (number,))

        with storage_errors(self._path):
            self._commits.make(lose)

    def cancel_waiting(self, number: int, answer: dict[str, Any]) -> bool:
        """Cancel a waiting submission; False if it was sent or is being sent."""
        return self._refused(number, answer, " AND state = 'waiting'")

    def mark_refused(self, number: int, answer: dict[str, Any]) -> None:
        """Mark it as refused."""
        self._refused(number, answer)

    def _refused(self, number: int, answer: dict[str, Any], only: str = "") -> bool:
        update = f"UPDATE submissions SET state = 'refused', answer = ?, ended = 1 WHERE number = ?{only}"  # noqa: S608

        def refuse(store: sqlite3.Connection) -> bool:
            is_changed = store.execute(update, (json.dumps(answer), number)).rowcount == 1
            if is_changed:
                store.execute("DELETE FROM payloads WHERE number = ?", (number,))
            return is_changed

        with storage_errors(self._path):
            return self._commits.make(refuse)

    def mark_ended(self, numbers: Iterable[int]) -> None:
        """Mark submissions as ended and delete their payloads."""
        marks = [(number,) for number in numbers]

        def end(store: sqlite3.Connection) -> None:
            store.executemany("UPDATE submissions SET ended = 1 WHERE number = ?", marks)
            store.executemany("DELETE FROM payloads WHERE number = ?", marks)

        if marks:
            with storage_errors(self._path):
                self._commits.make(end)

    def record_cancellation(self, number: int) -> None:
        """Record the cancellation of its job."""
        self._change("INSERT OR REPLACE INTO cancelled VALUES (?, ?)", (number, time.time()))

    def is_cancelled(self, number: int) -> bool:
        """Whether its user has cancelled its job."""
        with self._reader_lock, storage_errors(self._path):
            query = "SELECT 1 FROM cancelled WHERE number = ?"
            return self._reader.execute(query, (number,)).fetchone() is not None

    def cancelled_since(self, at: float) -> list[str]:
        """Keys of submissions cancelled after a time (Unix seconds)."""
        query = "SELECT key FROM submissions JOIN cancelled USING (number) WHERE at >= ?"
        with self._reader_lock, storage_errors(self._path):
            return [key for (key,) in self._reader.execute(query, (at,))]

    def next_to_send(self, after: int = 0, lane: int = 0, lanes: int = 1) -> Entry | None:
        """The oldest unsent submission after this number, of one sender of several, with its payload."""
        query = (
            "SELECT number, key, user, payloads.payload, state, job_id, answer, ended, created, accepted, resent "
            "FROM submissions JOIN payloads USING (number) "
            "WHERE state IN ('waiting', 'sending') AND number > ? AND number % ? = ? ORDER BY number LIMIT 1"
        )
        with self._reader_lock, storage_errors(self._path):
            row = self._reader.execute(query, (after, lanes, lane)).fetchone()
        return None if row is None else _entry(row)

    def by_key(self, key: str) -> Entry | None:
        """The submission with this key."""
        return self._one("key = ?", (key,))

    def by_job(self, job_id: int, user: str | None = None) -> Entry | None:
        """The latest submission with this job id, of one user or of all; Slurm reuses ids.

        Without one, the latest that had this id before it was resubmitted.
        """
        formerly = "number IN (SELECT number FROM former WHERE job_id = ?)"
        for where in ("job_id = ?", formerly):
            if user is None:
                entry = self._one(where + NEWEST, (job_id,))
            else:
                entry = self._one(where + " AND user = ?" + NEWEST, (job_id, user))
            if entry is not None:
                return entry
        return None

    def had_job_id(self, number: int, job_id: int) -> bool:
        """Whether this submission's job had this id before C2 lost it."""
        query = "SELECT 1 FROM former WHERE number = ? AND job_id = ?"
        with self._reader_lock, storage_errors(self._path):
            return self._reader.execute(query, (number, job_id)).fetchone() is not None

    def current_job_id(self, job_id: int, before: int) -> int | None:
        """The current id of a job that had this id when submission `before` was made; None while it has none."""
        entry = self._one(
            "number < ? AND (job_id = ? OR number IN (SELECT number FROM former WHERE job_id = ?)) "
            "ORDER BY number DESC LIMIT 1",
            (before, job_id, job_id),
        )
        return job_id if entry is None else entry.job_id

    def open_entries(self, user: str | None = None) -> list[Entry]:
        """Open submissions, of one user or of all, oldest first."""
        if user is None:
            return self._all("ended = 0 ORDER BY number", ())
        return self._all("ended = 0 AND user = ? ORDER BY number", (user,))

    def open_arrays(self, user: str) -> list[str | None]:
        """The array specification of each open submission of a user; None for a single job."""
        query = "SELECT json_extract(payload, '$.job.array') FROM submissions WHERE ended = 0 AND user = ?"
        with self._reader_lock, storage_errors(self._path):
            return [array for (array,) in self._reader.execute(query, (user,))]

    def has_open(self) -> bool:
        """Whether there are open jobs on C2."""
        query = "SELECT 1 FROM submissions WHERE ended = 0 AND job_id IS NOT NULL LIMIT 1"
        with self._reader_lock, storage_errors(self._path):
            return self._reader.execute(query).fetchone() is not None

    def open_jobs(self, job_ids: Collection[int] | None = None) -> list[tuple[int, str, int]]:
        """Number, key and job id of all open jobs on C2, without their payloads.

        `job_ids`: of these only.
        """
        query = "SELECT number, key, job_id FROM submissions WHERE ended = 0 AND job_id"
        if job_ids is None:
            with self._reader_lock, storage_errors(self._path):
                return self._reader.execute(f"{query} IS NOT NULL ORDER BY number").fetchall()
        return self._of_many(f"{query} IN", job_ids)

    def list_rows(self, user: str | None, limit: int) -> list[tuple[int, str, int | None, bool]]:
        """Number, key, job id and whether it has ended, for one user or all, oldest first.

        All that have not ended, and the newest of those that have.
        """
        columns = "SELECT number, key, job_id, ended AND state != 'lost' FROM submissions WHERE"
        whose, values = ("user = ? AND", (user,)) if user is not None else ("", ())
        ended = f"{columns} {whose} ended = 1 AND state IN ('accepted', 'lost') ORDER BY number DESC LIMIT ?"
        with self._reader_lock, storage_errors(self._path):
            found = self._reader.execute(f"{columns} {whose} ended = 0", values).fetchall()
            found += self._reader.execute(ended, (*values, limit)).fetchall()
        return sorted((number, key, job_id, bool(over)) for number, key, job_id, over in found)

    def by_number(self, numbers: Collection[int]) -> list[Entry]:
        """The submissions with these numbers."""
        return [
            _entry(row)
            for row in self._of_many(f"SELECT {_COLUMNS} FROM submissions WHERE number IN", numbers)  # noqa: S608
        ]

    def statuses(self, keys: Collection[str]) -> dict[str, EntryStatus]:
        """These submissions' states by key, without payloads; unknown keys are omitted."""
        query = "SELECT key, user, state, job_id, ended, answer FROM submissions WHERE key IN"
        return {
            key: EntryStatus(user, state, job_id, bool(ended), json.loads(answer))
            for key, user, state, job_id, ended, answer in self._of_many(query, keys)
        }

    def owners(self, keys: Collection[str]) -> dict[str, str]:
        """The users who submitted these, by key."""
        return dict(self._of_many("SELECT key, user FROM submissions WHERE key IN", keys))

    def _of_many(self, query: str, values: Collection[Any]) -> list[Any]:
        """Run a query that ends with IN for many values, in parts."""
        found, wanted = [], list(values)
        with self._reader_lock, storage_errors(self._path):
            for begin in range(0, len(wanted), MAX_VALUES):
                part = wanted[begin : begin + MAX_VALUES]
                found += self._reader.execute(f"{query} ({','.join('?' * len(part))})", part).fetchall()
        return found

    def latest(self, user: str | None, limit: int) -> list[Entry]:
        """The newest submissions, of one user or of all, oldest first."""
        if user is None:
            found = self._all("1 ORDER BY number DESC LIMIT ?", (limit,))
        else:
            found = self._all("user = ? ORDER BY number DESC LIMIT ?", (user, limit))
        return found[::-1]

    def _one(self, where: str, values: tuple[Any, ...]) -> Entry | None:
        found = self._all(where, values)
        return found[0] if found else None

    def _all(self, where: str, values: tuple[Any, ...]) -> list[Entry]:
        query = f"SELECT {_COLUMNS} FROM submissions WHERE {where}"  # noqa: S608 -- `where` is ours
        with self._reader_lock, storage_errors(self._path):
            return [_entry(row) for row in self._reader.execute(query, values)]

    def _change(self, statement: str, values: tuple[Any, ...]) -> bool:
        """Run a change; whether it changed a row."""
        with storage_errors(self._path):
            return self._commits.make(lambda store: store.execute(statement, values).rowcount == 1)


def _entry(row: tuple[Any, ...]) -> Entry:
    number, key, user, payload, state, job_id, answer, ended, created, accepted, resent = row
    said = json.loads(payload), state, job_id, json.loads(answer)
    return Entry(number, key, user, *said, bool(ended), created, accepted, resent)
