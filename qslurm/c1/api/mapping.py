"""`CenterConnection.map`: many jobs, read, sent and given back a part at a time."""

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
from qslurm.errors import QslurmError

if TYPE_CHECKING:
    from qslurm.c1.connection.center_connection import CenterConnection
    from qslurm.c1.submission.packing import Package
    from qslurm.c1.submission.sending import Batch
    from qslurm.slurm.rest import Submitted

S = TypeVar("S")

AT_ONCE = 1000
"""Sources that are read, checked and sent together: as many as an array may have."""

PendingJob = tuple[int, Future[Result]]
"""A job on C2, of which it may be a task, and the future of what it gives."""


class Results(Generic[S], Iterator[Any]):
    """Results in the order of their sources. Ending the iteration early, or an error, cancels what is left."""

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
        except BaseException:  # out of time, or interrupted
            self.close()
            raise
        self._pending.popleft()
        return found

    def close(self) -> None:
        """Submit no more, and cancel what has not ended."""
        self._ended = self._all_read = True
        left = list(dict.fromkeys(job_id for job_id, future in self._pending if not future.done()))
        self._pending.clear()
        if left and os.getpid() == self._pid:  # in a forked process they are its parent's
            self._cancel(left)

    def finish(self) -> None:
        """Submit no more, and wait for what was: it may be iterated over afterwards."""
        self._ended = True
        for _, future in self._pending:
            future.exception()

    def __del__(self) -> None:
        with suppress(Exception):  # there is nobody to be told
            self.close()

    def _fill(self) -> None:
        """Read on as long as there is room for what is read at once."""
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
    """Submit jobs, in their order.

    `made` is told of each job, and of how many tasks as an array, and gives the futures. A refusal is the exception of
    the jobs that it is about. After another error, or an interrupt, what was sent is cancelled, and it is raised.
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
                failure = failure or (None if _is_its_own(outcome) else outcome)
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
    """Have C2 cancel these, as far as it can."""
    from qslurm.c1.submission.parallel import for_each
    from qslurm.errors import RefusedError

    for_each(
        connect,
        list(dict.fromkeys(jobs)),
        lambda center, job_id: center.slurm.cancel(job_id),
        connections=_at_once(connect),
        own=RefusedError,
    )


def _at_once(connect: Callable[[], CenterConnection]) -> int:
    """How many questions may be under way; nothing is asked for it."""
    center = connect()
    center.close()
    return center.submissions_at_once


def _failed(error: QslurmError) -> Future[Result]:
    future: Future[Result] = Future()
    future.set_exception(error)
    return future


def _is_its_own(error: QslurmError) -> bool:
    from qslurm.errors import RefusedError

    return isinstance(error, RefusedError)
