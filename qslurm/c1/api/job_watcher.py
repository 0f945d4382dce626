"""One thread that looks after all jobs somebody has a future of, and settles each when it has ended."""

from __future__ import annotations

import heapq
import threading
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any, Protocol

from qslurm.c1.api.result import Result
from qslurm.c1.connection.polling import PATIENCE_S, next_delay
from qslurm.errors import UnreachableError

LEAST_PAUSE_S = 0.05
"""Between two questions to C2 about jobs that go on: it can answer one for many users, not all of many."""


class Awaited(Protocol):
    """A job on C2 that somebody has a future of, or several."""

    id: int

    def set_result(self, result: Result, /) -> None: ...  # noqa: D102
    def set_exception(self, exception: BaseException, /) -> None: ...  # noqa: D102


Settle = Callable[[Any], Result | None]
"""Looks at a job: its result, None while it is under way; raises how it ended, or UnreachableError."""


@dataclass(order=True)
class _WatchedJob:
    due: float
    number: int
    job: Awaited = field(compare=False)
    since: float = field(compare=False)
    heard: float = field(compare=False)


class JobWatcher:
    """Asks for each job as often as `qslurm wait` does, and when somebody says that it has changed.

    The thread lives while there is something to wait for. `delay` is the time until the next look at a job that has
    been waited for so long, `least_pause_s` that between two looks; a C2 that does not answer is given `patience_s`.
    """

    def __init__(
        self,
        settle: Settle,
        *,
        delay: Callable[[float], float] = next_delay,
        least_pause_s: float = LEAST_PAUSE_S,
        patience_s: float = PATIENCE_S,
    ) -> None:
        self._settle = settle
        self._delay, self._least_pause_s, self._patience_s = delay, least_pause_s, patience_s
        self._waiting: list[_WatchedJob] = []
        self._looked_at: _WatchedJob | None = None
        self._look_again = False
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._number = 0
        self._closed = False

    def add(self, job: Awaited) -> None:
        """Look after a job from now on."""
        now = time.monotonic()
        with self._changed:
            self._number += 1
            watched = _WatchedJob(now + self._delay(0), self._number, job, since=now, heard=now)
            heapq.heappush(self._waiting, watched)
            if self._thread is None:
                # A daemon: a program that ends does not wait for jobs that C2 keeps anyway.
                self._thread = threading.Thread(target=self._run, name="qslurm-jobs", daemon=True)
                self._thread.start()
            self._changed.notify()

    def wake(self, jobs: Collection[int] | None) -> None:
        """These jobs have changed, or with None any of them may have: look at once."""
        with self._changed:
            for watched in self._waiting:
                if jobs is None or watched.job.id in jobs:
                    watched.due = 0.0
            heapq.heapify(self._waiting)
            if self._looked_at is not None and (jobs is None or self._looked_at.job.id in jobs):
                self._look_again = True
            self._changed.notify()

    @property
    def is_waiting(self) -> bool:
        """Whether there is a job that has not ended."""
        return self._thread is not None and not self._closed

    def close(self) -> None:
        """Look no more, and wait until the thread has ended."""
        with self._changed:
            self._closed = True
            self._changed.notify()
            thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join()

    def _run(self) -> None:
        while (watched := self._next()) is not None:
            if self._is_settled(watched):
                continue
            now = time.monotonic()
            with self._changed:
                watched.due = 0.0 if self._look_again else now + self._delay(now - watched.since)
                heapq.heappush(self._waiting, watched)
                self._looked_at = None
                self._changed.wait_for(lambda: self._closed, self._least_pause_s)

    def _next(self) -> _WatchedJob | None:
        """The job whose turn it is, when it is; None when there is nothing to do any more."""
        with self._changed:
            while self._waiting and not self._closed:
                left = self._waiting[0].due - time.monotonic()
                if left <= 0:
                    self._looked_at, self._look_again = heapq.heappop(self._waiting), False
                    return self._looked_at
                self._changed.wait(left)
            self._thread = self._looked_at = None
            return None

    def _is_settled(self, watched: _WatchedJob) -> bool:
        try:
            result = self._settle(watched.job)
        except UnreachableError as error:
            silent_s = time.monotonic() - watched.heard
            if silent_s <= self._patience_s:
                return False
            watched.job.set_exception(
                UnreachableError(
                    f"C2 has not answered for {silent_s:.0f} s; the job continues.", hint=error.hint
                )
            )
        except Exception as error:  # noqa: BLE001 -- whoever waits must hear of it, whatever it is
            watched.job.set_exception(error)
        else:
            watched.heard = time.monotonic()
            if result is None:
                return False
            watched.job.set_result(result)
        return True
