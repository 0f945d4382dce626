"""`Center.map`: submits jobs in batches, and yields their results in order."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import suppress
from itertools import islice
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from qslurm.c1.api.result import Result
from qslurm.errors import QslurmError, RefusedError

if TYPE_CHECKING:
    from qslurm.c1.connection.center_connection import CenterConnection
    from qslurm.c1.submission.packing import Package
    from qslurm.c1.submission.sending import Batch
    from qslurm.slurm.rest import Submitted

S = TypeVar("S")

AT_ONCE = 1000
"""Maximum sources that are read, checked and submitted together: the size of an array."""

PendingJob = tuple[int, Future[Result]]
"""A job id on C2 (an array's for its tasks), and the future of the result."""


class Results(Generic[S], Iterator[Any]):
    """Iterates over results in the order of their sources. Ending it early, or an error, cancels the remaining jobs.

    `end` is the deadline (monotonic seconds).
    """

    def __init__(
        self,
        sources: Iterable[S],
        send: Callable[[list[S]], list[PendingJob]],
        cancel: Callable[[Sequence[int]], None],
        *,
        end: float | None,
        buffersize: int,
        return_exceptions: bool,
    ) -> None:
        self._sources = iter(sources)
        self._send, self._cancel = send, cancel
        self._end, self._return_exceptions = end, return_exceptions
        self._buffersize, self._at_once = buffersize, max(1, min(AT_ONCE, buffersize // 2))
        self._pending: deque[PendingJob] = deque()
        self._all_read = False
        self._ended = False
        self._pid = os.getpid()
        self._fill()

    def __next__(self) -> Any:
        if not self._ended:
            self._fill()
        if not self._pending:
            if self._ended and not self._all_read:
                raise RuntimeError("The Center was closed before map had submitted all jobs.")
            raise StopIteration
        _, future = self._pending[0]
        left = None if self._end is None else self._end - time.monotonic()
        try:
            found: Any = future.result(left)
        except QslurmError as error:
            if not self._return_exceptions:
                self.close()
                raise
            found = error
        except BaseException:  # timed out or interrupted
            self.close()
            raise
        self._pending.popleft()
        return found

    def close(self) -> None:
        """Submit no more jobs, and cancel those that have not ended."""
        self._ended = self._all_read = True
        left = list(dict.fromkeys(job_id for job_id, future in self._pending if not future.done()))
        self._pending.clear()
        if left and os.getpid() == self._pid:  # in a forked process they belong to its parent
            self._cancel(left)

    def finish(self) -> None:
        """Submit no more jobs, and wait for those submitted; iteration may continue afterwards."""
        self._ended = True
        for _, future in self._pending:
            future.exception()

    def __del__(self) -> None:
        with suppress(Exception):  # an exception here could only be printed
            self.close()

    def _fill(self) -> None:
        """Submit further batches while there is room in the buffer."""
        while not self._all_read and len(self._pending) <= self._buffersize - self._at_once:
            try:
                part = list(islice(self._sources, self._at_once))
                self._all_read = len(part) < self._at_once
                self._pending += self._send(part) if part else []
            except BaseException:
                self.close()
                raise


def send_all(
    connect: Callable[[], CenterConnection],
    batch: Batch,
    made: Callable[[int, int | None], list[Future[Result]]],
) -> list[PendingJob]:
    """Submit jobs; their ids and futures in the order of the batch.

    `made` returns the futures of a job (its id, and the number of tasks if it is an array). A refusal becomes the
    exception of the jobs concerned. Any other error, or an interrupt, cancels the jobs submitted so far and is raised.
    """
    found: dict[int, PendingJob] = {}
    failure: QslurmError | None = None
    sent: list[int] = []

    def keep(_: Package, outcome: Submitted | QslurmError) -> None:
        if not isinstance(outcome, QslurmError):
            sent.append(outcome.job_id)

    center = connect()
    try:
        for package, outcome in batch.send(center, connect, on_done=keep):
            if isinstance(outcome, QslurmError):
                futures = [_failed(outcome) for _ in package.members]
                job_id = 0
                failure = failure or (None if isinstance(outcome, RefusedError) else outcome)
            elif outcome is not None:
                job_id = outcome.job_id
                futures = made(job_id, len(package.members) if package.is_array else None)
            else:
                continue
            for member, future in zip(package.members, futures, strict=True):
                found[member] = (job_id, future)
    except BaseException:
        cancel_all(connect, sent)
        raise
    finally:
        center.close()
    if failure is not None:
        cancel_all(connect, sent)
        raise failure
    return [found[member] for member in sorted(found)]


def cancel_all(connect: Callable[[], CenterConnection], jobs: Sequence[int]) -> None:
    """Cancel these jobs; errors are ignored."""
    from qslurm.c1.submission.parallel import for_each

    for_each(
        connect,
        list(dict.fromkeys(jobs)),
        lambda center, job_id: center.slurm.cancel(job_id),
        connections=_at_once(connect),
        item_error=RefusedError,
    )


def _at_once(connect: Callable[[], CenterConnection]) -> int:
    """The number of concurrent requests of this connection; sends nothing."""
    center = connect()
    center.close()
    return center.submissions_at_once


def _failed(error: QslurmError) -> Future[Result]:
    future: Future[Result] = Future()
    future.set_exception(error)
    return future
