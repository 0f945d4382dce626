"""The outbox's database file: its schema, how it is opened, and SQLite's errors."""

from __future__ import annotations

import fcntl
import os
import sqlite3
from pathlib import Path

from qslurm.errors import NoRoomError, QslurmError, UnreachableError
from qslurm.system.sqlite_damage import damaged, is_damage

SCHEMA = """
CREATE TABLE IF NOT EXISTS submissions (
    number   INTEGER PRIMARY KEY,
    key      TEXT NOT NULL UNIQUE,
    user     TEXT NOT NULL,
    payload  TEXT NOT NULL,              -- the SUMMARY_FIELDS, small: SQLite reads a row from its beginning
    state    TEXT NOT NULL,
    job_id   INTEGER,
    answer   TEXT NOT NULL DEFAULT '{}',
    ended    INTEGER NOT NULL DEFAULT 0,
    created  REAL NOT NULL,
    accepted REAL,                       -- Unix seconds, the last time
    resent   INTEGER NOT NULL DEFAULT 0  -- resubmissions
) STRICT;
CREATE TABLE IF NOT EXISTS payloads (    -- complete payloads, up to 4 MB, until the job ends
    number INTEGER PRIMARY KEY, payload TEXT NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS submissions_of_job ON submissions (job_id);
CREATE INDEX IF NOT EXISTS submissions_of_user ON submissions (user, number);
CREATE INDEX IF NOT EXISTS submissions_open ON submissions (user) WHERE ended = 0;
CREATE INDEX IF NOT EXISTS submissions_to_send ON submissions (number) WHERE state IN ('waiting', 'sending');
CREATE TABLE IF NOT EXISTS former (      -- ids of jobs that C2 lost, and their submissions
    job_id INTEGER NOT NULL, number INTEGER NOT NULL, PRIMARY KEY (job_id, number)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS cancelled (   -- cancelled submissions; Unix seconds
    number INTEGER PRIMARY KEY, at REAL NOT NULL
) STRICT;
PRAGMA user_version = 5;
"""

VERSION = 5

PAYLOADS_SPLIT = 3
"""The first version with payloads in a separate table."""

SUMMARY_FIELDS = ("name", "partition", "account", "comment", "array")
"""The fields of a job kept for lists and limits."""

_SUMMARY = ", ".join(f"'{name}', json_extract(payload, '$.job.{name}')" for name in SUMMARY_FIELDS)

TO_3 = f"""
BEGIN IMMEDIATE;
CREATE TABLE payloads (number INTEGER PRIMARY KEY, payload TEXT NOT NULL) STRICT;
INSERT INTO payloads SELECT number, payload FROM submissions WHERE ended = 0;
UPDATE submissions SET payload = json_patch('{{"job": {{}}}}', json_object('job', json_object({_SUMMARY})));
PRAGMA user_version = 3;
COMMIT;
"""  # noqa: S608 -- all of it is ours
"""Migration from version 1 or 2, which kept payloads in the main table."""

RESENDS_COUNTED = 5
"""The first version with a count of resubmissions."""

TO_5 = """
BEGIN IMMEDIATE;
ALTER TABLE submissions ADD COLUMN accepted REAL;
ALTER TABLE submissions ADD COLUMN resent INTEGER NOT NULL DEFAULT 0;
PRAGMA user_version = 5;
COMMIT;
"""
"""Migration from version 3 or 4."""

_NO_ROOM = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_SHMSIZE, sqlite3.SQLITE_IOERR_WRITE)
"""SQLite's error codes for a full file system or exhausted quota."""


def outbox_path(folder: Path) -> Path:
    """The database file in an agent's state directory."""
    return folder / "outbox.db"


def lock_outbox(path: Path) -> int:
    """Lock the outbox so that no second agent sends its entries; released when the returned descriptor is closed.

    UnreachableError if another agent holds the lock.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise QslurmError(
            f"Cannot open the outbox's lock file {path}: {error.strerror}.",
            hint="Check the directory's owner and permissions.",
        ) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        raise UnreachableError(
            f"Another agent is using the outbox in {path.parent}.",
            hint="Set a different directory for each agent (state under [agent]).",
        ) from error
    return descriptor


def connect(path: Path) -> sqlite3.Connection:
    """A connection for several threads with durable commits; sqlite3.Error if it fails."""
    store = sqlite3.connect(path, check_same_thread=False, isolation_level=None, timeout=10)
    store.execute("PRAGMA synchronous = FULL")
    return store


class opening_errors:  # noqa: N801 -- reads as a statement
    """Translate SQLite's errors on opening the file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, sqlite3.Error) and is_damage(error):
            raise damaged(self._path, error) from error
        if isinstance(error, sqlite3.Error):
            raise QslurmError(
                f"Cannot open the outbox {self._path}: {error}.",
                hint="Check free space, and the file's owner and permissions.",
            ) from error


class storage_errors:  # noqa: N801 -- reads as a statement
    """Translate SQLite's errors on reading and writing."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, sqlite3.Error) and is_damage(error):
            raise damaged(self._path, error) from error
        if isinstance(error, sqlite3.Error) and getattr(error, "sqlite_errorcode", 0) in _NO_ROOM:
            raise NoRoomError(
                "The disk of the center's agent is full.", hint="Tell the center's admins."
            ) from error
        if isinstance(error, sqlite3.Error):
            raise QslurmError(
                f"The center's agent cannot write its outbox: {error}.", hint="Tell the center's admins."
            ) from error
