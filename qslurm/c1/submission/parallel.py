"""The same done for many things, a few at a time, each over a kept connection of its own."""

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
"""For what is under way when its user wants no more: then at least the ids of jobs are known."""


def for_each(
    connect: Callable[[], CenterConnection],
    things: Sequence[T],
    do: Callable[[CenterConnection, T], R],
    *,
    connections: int,
    own: type[QslurmError],
    on_begin: Callable[[int], None] = lambda _: None,
    on_done: Callable[[int, R | QslurmError], None] = lambda _place, _outcome: None,
) -> list[R | QslurmError | None]:
    """Do something with each thing, over as many connections; what came of each, in their order.

    An error that is one of `own` is that thing's; another one keeps all from being begun that were not yet: they are
    None. `on_begin` and `on_done` are called, by any thread, with the thing's place. Ctrl-C, or whatever else a signal
    raises, begins nothing more either, and is raised when what is under way has been answered, or soon after.
    """
    work = _ParallelRun(connect, things, do, own, (on_begin, on_done))
    threads = [
        threading.Thread(target=work.run, name="many", daemon=True)
        for _ in range(min(connections, len(things)))
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
    """What is to be done, and has been, shared by the threads that do it."""

    def __init__(
        self,
        connect: Callable[[], CenterConnection],
        things: Sequence[Any],
        do: Callable[[CenterConnection, Any], Any],
        own: type[QslurmError],
        on: tuple[Callable[[int], None], Callable[[int, Any], None]],
    ) -> None:
        self._connect, self._do, self._own = connect, do, own
        self._on_begin, self._on_done = on
        self._things = things
        self._places = iter(range(len(things)))
        self._lock = threading.Lock()
        self.stop = threading.Event()
        self.outcomes: list[Any] = [None] * len(things)
        self.opened: list[CenterConnection] = []
        self.bug: BaseException | None = None

    def run(self) -> None:
        """Do one after the other until there is none left."""
        center: CenterConnection | None = None
        try:
            while not self.stop.is_set():
                with self._lock:
                    place = next(self._places, None)
                if place is None:
                    return
                try:
                    if center is None:
                        center = self._connect()
                        self.opened.append(center)
                    self._on_begin(place)
                    outcome = self._do(center, self._things[place])
                except QslurmError as error:
                    outcome = error
                    if not isinstance(error, self._own):
                        self.stop.set()
                self.outcomes[place] = outcome
                self._on_done(place, outcome)
        except BaseException as error:  # noqa: BLE001 -- it is raised where the threads are waited for
            self.bug = error
            self.stop.set()
