"""Detects damaged SQLite files, and tells operators how to restore them."""

from __future__ import annotations

import sqlite3
import threading
from pathlib import Path
from urllib.parse import quote

from qslurm.errors import QslurmError

DAMAGED = ("SQLITE_CORRUPT", "SQLITE_NOTADB", "SQLITE_FORMAT")
"""SQLite's error names for a damaged database (sqlite.org/rescode.html)."""


class DamagedError(QslurmError):
    """A database is damaged and must be restored."""

    kind = "damaged"


def is_damage(error: sqlite3.Error) -> bool:
    """Whether the file is damaged, rather than full, locked or missing."""
    return str(getattr(error, "sqlite_errorname", "")).startswith(DAMAGED)


def damaged(path: str | Path, why: object) -> DamagedError:
    """The error for a damaged file, with how to check and restore it."""
    return DamagedError(
        f"The database {path} is damaged: {why}.",
        hint=(
            f"Stop the service that writes it; check it with `sqlite3 {path} 'PRAGMA integrity_check'`. "
            'Restore the last copy, or recover what is readable: deploy/README.md, "Backups".'
        ),
    )


def check(path: Path, within_s: float) -> bool:
    """Check a whole database (PRAGMA quick_check); DamagedError if damaged, False on time-out."""
    idle = not path.with_name(path.name + "-wal").exists()
    uri = f"file:{quote(str(path.absolute()))}?mode=ro" + ("&immutable=1" if idle else "")
    try:
        connection = sqlite3.connect(uri, uri=True, timeout=within_s, check_same_thread=False)
        alarm = threading.Timer(within_s, connection.interrupt)
        alarm.daemon = True
        alarm.start()
        try:
            message = str(connection.execute("PRAGMA quick_check(1)").fetchone()[0])
        finally:
            alarm.cancel()
            alarm.join()
            connection.close()
    except sqlite3.Error as error:
        if is_damage(error):
            raise damaged(path, error) from error
        if getattr(error, "sqlite_errorname", "") == "SQLITE_INTERRUPT":
            return False
        raise QslurmError(f"Cannot read the database {path}: {error}.") from error
    if message != "ok":
        raise damaged(path, message)
    return True
