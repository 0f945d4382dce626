"""Lets the loop have slow things done by threads, and be woken when they are done."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from qslurm.system.event_log import EventLog
from qslurm.system.logfmt import Field

if TYPE_CHECKING:
    from concurrent.futures import Future, ThreadPoolExecutor

log = EventLog(__name__)

T = TypeVar("T")


class WorkerThreads:
    """A few threads for each kind of work, so that one kind can't hold up another.

    What they find out is handed to functions that run in the loop's own thread.
    """

    def __init__(self, number: int = 4) -> None:
        self._number = number
        self._executors: dict[str, ThreadPoolExecutor] = {}
        self._done: deque[Callable[[], None]] = deque()
        self.ear, self.bell = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def do(
        self,
        kind: str,
        work: Callable[[], T],
        then: Callable[[T], None],
        *,
        failed: Callable[[], None] = lambda: None,
        **about: Field,
    ) -> None:
        """Call `work` in one of the threads for its kind, and `then` with its answer in the loop.

        If `work` raises, that is logged with what it is `about`, `failed` is called in the loop, and nobody is
        answered: whoever asked will ask again.
        """
        if kind not in self._executors:
            from concurrent.futures import ThreadPoolExecutor

            self._executors[kind] = ThreadPoolExecutor(self._number, thread_name_prefix=kind)

        def both() -> None:
            try:
                answer = work()
            except BaseException:
                self._done.append(failed)
                raise
            else:
                self._done.append(lambda: then(answer))
            finally:
                self.ring()

        self._executors[kind].submit(both).add_done_callback(partial(_log_failure, kind, about))

    def ring(self) -> None:
        """Wake the loop; from any thread, and from a signal handler."""
        try:
            os.write(self.bell, b"\0")
        except OSError as error:  # full: it wakes anyway; closed: it has stopped
            log.debug("wakeup not written", why=str(error))

    def run_callbacks(self) -> None:
        """Call what the threads have left; only the loop does this."""
        try:
            os.read(self.ear, 4096)
        except BlockingIOError:
            log.debug("nobody rang")
        while self._done:
            self._done.popleft()()

    def close(self) -> None:
        """Wait for nobody."""
        for executor in self._executors.values():
            executor.shutdown(wait=False, cancel_futures=True)
        os.close(self.ear)
        os.close(self.bell)


def _log_failure(kind: str, about: Mapping[str, Field], future: Future[None]) -> None:
    if not future.cancelled() and (error := future.exception()) is not None:
        log.crashed("worker thread failed", error, **about, thread=kind)
