"""An SQLite file that is damaged: how that shows, and what an operator does about it."""

from __future__ import annotations

import sqlite3
import threading
from pathlib import Path
from urllib.parse import quote

from qslurm.errors import QslurmError

DAMAGED = ("SQLITE_CORRUPT", "SQLITE_NOTADB", "SQLITE_FORMAT")
"""How SQLite names what it says of a file that is not, or not any more, a database (sqlite.org/rescode.html)."""


class DamagedError(QslurmError):
    """A file with what has to be kept can't be read any more: somebody has to restore it."""

    kind = "damaged"


def is_damage(error: sqlite3.Error) -> bool:
    """Whether the file itself is damaged, and not only full, locked or away."""
    return str(getattr(error, "sqlite_errorname", "")).startswith(DAMAGED)


def damaged(path: str | Path, why: object) -> DamagedError:
    """The error that says so: which file, how to look, and how to restore it."""
    return DamagedError(
        f"The database {path} is damaged: {why}.",
        hint=(
            f"Stop the service that writes it; `sqlite3 {path} 'PRAGMA integrity_check'` looks at all of it. Put the "
            'last copy in its place, or what can still be read of it: deploy/README.md, "Copies".'
        ),
    )


def check(path: Path, within_s: float) -> bool:
    """Read a whole database (PRAGMA quick_check); DamagedError if it is damaged, False if there was no time for all."""
    idle = not path.with_name(path.name + "-wal").exists()
    uri = f"file:{quote(str(path.absolute()))}?mode=ro" + ("&immutable=1" if idle else "")
    try:
        connection = sqlite3.connect(uri, uri=True, timeout=within_s, check_same_thread=False)
        alarm = threading.Timer(within_s, connection.interrupt)
        alarm.daemon = True
        alarm.start()
        try:
            said = str(connection.execute("PRAGMA quick_check(1)").fetchone()[0])
        finally:
            alarm.cancel()
            alarm.join()
            connection.close()
    except sqlite3.Error as error:
        if is_damage(error):
            raise damaged(path, error) from error
        if getattr(error, "sqlite_errorname", "") == "SQLITE_INTERRUPT":
            return False
        raise QslurmError(f"The database {path} can't be read: {error}.") from error
    if said != "ok":
        raise damaged(path, said)
    return True
