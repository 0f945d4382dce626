"""Hears from the center's agent which jobs have changed, so that their futures need not wait for their turn."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING

from qslurm.errors import QslurmError, UnreachableError

if TYPE_CHECKING:
    from qslurm.c1.connection.center_connection import CenterConnection

PATIENCE_S = 5.0
"""One question waits so long for news; a thread that is not needed any more ends within it."""

RETRY_S = 5.0
"""Until an agent that did not answer is asked again."""


class ChangeListener:
    """Calls `wake` with the ids of jobs that have changed, None when it may be any of them.

    Its thread lives as long as it is `wanted`, and ends at once where nobody tells of changes. An agent that did not
    answer is asked again after `retry_s`.
    """

    def __init__(
        self,
        connect: Callable[[], CenterConnection],
        wake: Callable[[Collection[int] | None], None],
        wanted: Callable[[], bool],
        retry_s: float = RETRY_S,
    ) -> None:
        self._connect, self._wake, self._wanted, self._retry_s = connect, wake, wanted, retry_s
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._is_vain = False

    def listen(self) -> None:
        """Have a thread that listens, if there is anybody to listen to."""
        with self._lock:
            if self._thread is None and not self._is_vain:
                # A daemon: a question that waits for its answer must not keep a program from ending.
                self._thread = threading.Thread(target=self._run, name="qslurm-news", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        center = self._connect()
        number = 0
        try:
            while self._is_needed():
                number = self._hear(center, number)
        except QslurmError:  # an agent that does not know the question; jobs are looked at in their turn
            self._is_vain = True
        finally:
            center.close()
            with self._lock:
                if self._thread is threading.current_thread():
                    self._thread = None

    def _is_needed(self) -> bool:
        """Who is not needed any more gives up its place in the same moment: the next job gets another thread."""
        with self._lock:
            if self._wanted() and not self._is_vain:
                return True
            self._thread = None
            return False

    def _hear(self, center: CenterConnection, number: int) -> int:
        """Ask once; the number of the answer."""
        try:
            moved = center.changes_since(number, PATIENCE_S)
        except UnreachableError:
            threading.Event().wait(self._retry_s)
            return 0
        if moved is None:
            self._is_vain = True
            return 0
        if moved.missed or moved.jobs:
            self._wake(None if moved.missed else set(moved.jobs))
        return moved.number
