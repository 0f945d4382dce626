"""Group commit for SQLite: changes of several threads share a transaction.

A commit takes the disk a millisecond or more, however large, and a database has one at a time.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from qslurm.system.event_log import EventLog

log = EventLog(__name__)

T = TypeVar("T")


class _Change:
    """One thread's change and its outcome."""

    def __init__(self, make: Callable[[sqlite3.Connection], Any]) -> None:
        self.make = make
        self.turn = threading.Event()
        """Set when the change is committed, or when its thread must commit the batch."""
        self.done = False
        self.result: Any = None
        self.error: BaseException | None = None


class Commits:
    """Commits changes over a connection in autocommit mode, which others may use while holding `lock`."""

    def __init__(self, store: sqlite3.Connection, lock: threading.Lock) -> None:
        self._store = store
        self._lock = lock
        self._mutex = threading.Lock()
        self._waiting: list[_Change] = []
        self._busy = False

    def make(self, change: Callable[[sqlite3.Connection], T]) -> T:
        """Run a change and return its result once it is on disk; on an error, nothing of it is kept.

        Changes run in the order of their calls. One may run twice, the second time after a rollback.
        """
        mine = _Change(change)
        with self._mutex:
            self._waiting.append(mine)
            leads, self._busy = not self._busy, True
        if not leads:
            mine.turn.wait()
        if not mine.done:
            self._commit_waiting()
        if mine.error is not None:
            raise mine.error
        result: T = mine.result
        return result

    def _commit_waiting(self) -> None:
        with self._mutex:
            batch, self._waiting = self._waiting, []
        try:
            with self._lock:
                self._commit(batch)
        except BaseException as error:  # noqa: BLE001 -- no change of the batch is on disk
            for one in batch:
                one.error = error
        finally:
            with self._mutex:
                after = self._waiting[0] if self._waiting else None
                self._busy = after is not None
            for one in batch:
                one.done = True
                one.turn.set()
            if after is not None:
                after.turn.set()

    def _commit(self, batch: Sequence[_Change]) -> None:
        """Commit all in one transaction; if that fails, each separately, so that only the failing ones fail."""
        if len(batch) > 1:
            try:
                self._transaction(batch)
            except Exception:  # noqa: BLE001 -- found below, one by one
                log.debug("committing changes one by one", number=len(batch))
            else:
                return
        for one in batch:
            try:
                self._transaction([one])
            except Exception as error:  # noqa: BLE001 -- raised in its own thread
                one.error = error

    def _transaction(self, batch: Sequence[_Change]) -> None:
        self._store.execute("BEGIN IMMEDIATE")
        try:
            for one in batch:
                one.result = one.make(self._store)
            self._store.execute("COMMIT")
        except BaseException:
            if self._store.in_transaction:  # SQLite has rolled back by itself when the disk is full
                self._store.execute("ROLLBACK")
            raise
