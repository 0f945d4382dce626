"""Runs slow work in threads, and wakes the main loop for the results."""

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
    """A few threads for each kind of work, so that one kind cannot delay another.

    Poll `fileno` and call `run_callbacks` in the main loop's thread.
    """

    def __init__(self, number: int = 4) -> None:
        self._number = number
        self._executors: dict[str, ThreadPoolExecutor] = {}
        self._done: deque[Callable[[], None]] = deque()
        self.fileno, self.wake_fd = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def submit(
        self,
        kind: str,
        work: Callable[[], T],
        then: Callable[[T], None],
        *,
        failed: Callable[[], None] = lambda: None,
        **about: Field,
    ) -> None:
        """Call `work` in a thread for its kind, and `then` with its result in the main loop.

        An exception of `work` is logged with `about`, and `failed` is called in the main loop instead of `then`. The
        client gets no reply and repeats its request.
        """
        if kind not in self._executors:
            from concurrent.futures import ThreadPoolExecutor

            self._executors[kind] = ThreadPoolExecutor(self._number, thread_name_prefix=kind)

        def run() -> None:
            try:
                result = work()
            except BaseException:
                self._done.append(failed)
                raise
            else:
                self._done.append(lambda: then(result))
            finally:
                self.wake()

        self._executors[kind].submit(run).add_done_callback(partial(_log_failure, kind, about))

    def wake(self) -> None:
        """Wake the main loop; from any thread, or from a signal handler."""
        try:
            os.write(self.wake_fd, b"\0")
        except OSError as error:  # full: it wakes anyway; closed: it stopped
            log.debug("wakeup not written", why=str(error))

    def run_callbacks(self) -> None:
        """Call the pending callbacks of finished work; only in the main loop."""
        try:
            os.read(self.fileno, 4096)
        except BlockingIOError:
            log.debug("spurious wakeup")
        while self._done:
            self._done.popleft()()

    def close(self) -> None:
        """Stop without waiting for running work."""
        for executor in self._executors.values():
            executor.shutdown(wait=False, cancel_futures=True)
        os.close(self.fileno)
        os.close(self.wake_fd)


def _log_failure(kind: str, about: Mapping[str, Field], future: Future[None]) -> None:
    if not future.cancelled() and (error := future.exception()) is not None:
        log.crashed("worker thread failed", error, **about, thread=kind)
