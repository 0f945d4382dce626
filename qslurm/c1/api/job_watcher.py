"""One thread that watches all jobs that have futures, and sets each future's result when its job has ended."""

from __future__ import annotations

import heapq
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from qslurm.c1.api.result import Result
from qslurm.c1.connection.polling import FIRST_DELAY_S, PATIENCE_S, next_delay
from qslurm.errors import UnreachableError

if TYPE_CHECKING:
    from qslurm.c1.api.agent_changes import Changes
    from qslurm.slurm.job_info import JobInfo

LEAST_PAUSE_S = 0.05
"""Minimum seconds between two queries about jobs that have not ended; C2 serves many users."""


class Awaited(Protocol):
    """A job on C2 with a future, or an array with several."""

    id: int

    def set_result(self, result: Result, /) -> None: ...  # noqa: D102
    def set_exception(self, exception: BaseException, /) -> None: ...  # noqa: D102


Settle = Callable[[Any, "Sequence[JobInfo]"], Result | None]
"""Checks a job, by its reported state or by a query if that is empty: its result, or None while it has not ended.

Raises the error that the job ended with, or UnreachableError.
"""


@dataclass(order=True)
class _WatchedJob:
    due: float
    number: int
    job: Awaited = field(compare=False)
    since: float = field(compare=False)
    answered: float = field(compare=False)
    reported: Sequence[JobInfo] = field(compare=False, default=())


class JobWatcher:
    """Checks each job as often as `qslurm wait` does, and when it is reported as changed.

    The thread runs while there are jobs to watch. A job is first checked after `first_delay_s`; `delay` gives the
    seconds until the next check from the seconds it was waited for. `least_pause_s` is the minimum between two checks,
    `patience_s` how long an unreachable C2 is tolerated.
    """

    def __init__(
        self,
        settle: Settle,
        *,
        delay: Callable[[float], float] = next_delay,
        first_delay_s: float = FIRST_DELAY_S,
        least_pause_s: float = LEAST_PAUSE_S,
        patience_s: float = PATIENCE_S,
    ) -> None:
        self._settle = settle
        self._delay, self._first_delay_s = delay, first_delay_s
        self._least_pause_s, self._patience_s = least_pause_s, patience_s
        self._waiting: list[_WatchedJob] = []
        self._current: _WatchedJob | None = None
        self._check_again = False
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._number = 0
        self._closed = False

    def add(self, job: Awaited) -> None:
        """Watch a job from now on."""
        now = time.monotonic()
        with self._changed:
            self._number += 1
            due = now + self._first_delay_s
            heapq.heappush(self._waiting, _WatchedJob(due, self._number, job, since=now, answered=now))
            if self._thread is None:
                # A daemon: a program that ends does not wait for its jobs.
                self._thread = threading.Thread(target=self._run, name="qslurm-jobs", daemon=True)
                self._thread.start()
            self._changed.notify()

    def wake(self, changes: Changes | None) -> None:
        """Check the jobs that have changed now; with None, all."""
        with self._changed:
            for watched in self._waiting:
                if changes is None or watched.job.id in changes:
                    watched.due, watched.reported = 0.0, changes[watched.job.id] if changes else ()
            heapq.heapify(self._waiting)
            current = self._current
            if current is not None and (changes is None or current.job.id in changes):
                self._check_again, current.reported = True, changes[current.job.id] if changes else ()
            self._changed.notify()

    @property
    def is_waiting(self) -> bool:
        """Whether there is a job that has not ended."""
        return self._thread is not None and not self._closed

    def close(self) -> None:
        """Stop watching, and wait until the thread has ended."""
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
                watched.due = 0.0 if self._check_again else now + self._delay(now - watched.since)
                heapq.heappush(self._waiting, watched)
                self._current = None
                self._changed.wait_for(lambda: self._closed, self._least_pause_s)

    def _next(self) -> _WatchedJob | None:
        """Wait for the next job that is due; None when no job is left."""
        with self._changed:
            while self._waiting and not self._closed:
                left = self._waiting[0].due - time.monotonic()
                if left <= 0:
                    self._current, self._check_again = heapq.heappop(self._waiting), False
                    return self._current
                self._changed.wait(left)
            self._thread = self._current = None
            return None

    def _is_settled(self, watched: _WatchedJob) -> bool:
        with self._changed:
            reported, watched.reported = watched.reported, ()
        try:
            result = self._settle(watched.job, reported)
        except UnreachableError as error:
            silent_s = time.monotonic() - watched.answered
            if silent_s <= self._patience_s:
                return False
            watched.job.set_exception(
                UnreachableError(
                    f"C2 has not answered for {silent_s:.0f} s; the job continues.", hint=error.hint
                )
            )
        except Exception as error:  # noqa: BLE001 -- the future's user must get it, whatever it is
            watched.job.set_exception(error)
        else:
            watched.answered = time.monotonic()
            if result is None:
                return False
            watched.job.set_result(result)
        return True
