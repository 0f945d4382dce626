"""Bindings of C1 jobs to the submissions they wait for: if one ends, the other is cancelled."""

from __future__ import annotations

import threading
from pathlib import Path

from qslurm.c1.agent.outbox_file import connect, opening_errors, outbox_path, storage_errors

_SCHEMA = """
CREATE TABLE IF NOT EXISTS bonds (
    key  TEXT PRIMARY KEY,
    job  TEXT NOT NULL
) STRICT;
"""


class WaitBindings:
    """Bindings stored in the outbox. Thread-safe; a change is on disk when its method returns.

    A C1 job is `cluster:id:restarts`, such as `snellius:12_3:0`.
    """

    def __init__(self, folder: Path) -> None:
        self._lock = threading.Lock()
        self._path = outbox_path(folder)
        with opening_errors(self._path):
            self._store = connect(self._path)
            self._store.executescript(_SCHEMA)

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._store.close()

    def bind(self, key: str, job: str) -> None:
        """Bind a C1 job to this submission."""
        with self._lock, storage_errors(self._path):
            self._store.execute(
                "INSERT INTO bonds VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET job = excluded.job",
                (key, job),
            )

    def unbind(self, key: str) -> None:
        """Remove a binding."""
        with self._lock, storage_errors(self._path):
            self._store.execute("DELETE FROM bonds WHERE key = ?", (key,))

    def has_binding(self, key: str) -> bool:
        """Whether a C1 job is bound to this submission."""
        with self._lock, storage_errors(self._path):
            return self._store.execute("SELECT 1 FROM bonds WHERE key = ?", (key,)).fetchone() is not None

    def bound_jobs(self, cluster: str) -> dict[str, str]:
        """Bound jobs of a cluster, by the key of the open submission."""
        query = (
            "SELECT key, job FROM bonds JOIN submissions USING (key)"
            " WHERE ended = 0 AND substr(job, 1, length(?)) = ?"
        )
        with self._lock, storage_errors(self._path):
            return dict(self._store.execute(query, (f"{cluster}:", f"{cluster}:")))

    def forget_ended(self) -> None:
        """Remove bindings of ended submissions."""
        query = "DELETE FROM bonds WHERE key NOT IN (SELECT key FROM submissions WHERE ended = 0)"
        with self._lock, storage_errors(self._path):
            self._store.execute(query)
