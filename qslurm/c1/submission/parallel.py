"""Applies a function to many items concurrently, over several connections."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from qslurm.errors import QslurmError

if TYPE_CHECKING:
    from qslurm.c1.connection.center_connection import CenterConnection

T = TypeVar("T")
R = TypeVar("R")

LAST_ANSWERS_S = 5.0
"""Seconds to wait for pending requests after an interrupt, so that the ids of submitted jobs are known."""


def for_each(
    connect: Callable[[], CenterConnection],
    items: Sequence[T],
    do: Callable[[CenterConnection, T], R],
    *,
    connections: int,
    item_error: type[QslurmError],
    on_begin: Callable[[int], None] = lambda _: None,
    on_done: Callable[[int, R | QslurmError], None] = lambda _position, _outcome: None,
) -> list[R | QslurmError | None]:
    """Apply `do` to each item, over this many connections; the outcomes in the order of the items.

    An `item_error` is the outcome of its item. After any other error no more items are started; their outcome is None.
    `on_begin` and `on_done` are called, in any thread, with the item's position. An exception from a signal (Ctrl-C)
    stops as well, and is raised when pending requests have been answered, at most LAST_ANSWERS_S later.
    """
    work = _ParallelRun(connect, items, do, item_error, (on_begin, on_done))
    threads = [
        threading.Thread(target=work.run, name="many", daemon=True)
        for _ in range(min(connections, len(items)))
    ]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    except BaseException:
        work.stop.set()
        until = time.monotonic() + LAST_ANSWERS_S
        for thread in threads:
            if thread.ident is not None:
                thread.join(max(0.0, until - time.monotonic()))
        raise
    finally:
        for center in work.opened:
            center.close()
    if work.bug is not None:
        raise work.bug
    return work.outcomes


class _ParallelRun:
    """The state shared by the threads."""

    def __init__(
        self,
        connect: Callable[[], CenterConnection],
        items: Sequence[Any],
        do: Callable[[CenterConnection, Any], Any],
        item_error: type[QslurmError],
        on: tuple[Callable[[int], None], Callable[[int, Any], None]],
    ) -> None:
        self._connect, self._do, self._item_error = connect, do, item_error
        self._on_begin, self._on_done = on
        self._items = items
        self._positions = iter(range(len(items)))
        self._lock = threading.Lock()
        self.stop = threading.Event()
        self.outcomes: list[Any] = [None] * len(items)
        self.opened: list[CenterConnection] = []
        self.bug: BaseException | None = None

    def run(self) -> None:
        """Process items until none is left."""
        center: CenterConnection | None = None
        try:
            while not self.stop.is_set():
                with self._lock:
                    position = next(self._positions, None)
                if position is None:
                    return
                try:
                    if center is None:
                        center = self._connect()
                        self.opened.append(center)
                    self._on_begin(position)
                    outcome = self._do(center, self._items[position])
                except QslurmError as error:
                    outcome = error
                    if not isinstance(error, self._item_error):
                        self.stop.set()
                self.outcomes[position] = outcome
                self._on_done(position, outcome)
        except BaseException as error:  # noqa: BLE001 -- raised by for_each
            self.bug = error
            self.stop.set()
