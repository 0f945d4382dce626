"""A job on C2 as a future, for `concurrent.futures.wait`, `as_completed` and `await`."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from qslurm.c1.api.result import Result
from qslurm.errors import JobCancelledError, NotReadyError

if TYPE_CHECKING:
    from qslurm.c1.api.center import Center
    from qslurm.slurm.job_info import JobInfo


class Job(Future[Result]):
    """A job that C2 has accepted, made by `Center.submit` and `Center.job`.

    `result(timeout)` and `exception(timeout)` wait as for any future: they raise TimeoutError after `timeout` seconds,
    and the job continues. A job that did not complete raises JobFailedError, JobCancelledError or TimedOutError (its
    own time limit), with C2's reason.
    """

    def __init__(self, center: Center, job_id: int, prefix: str = "") -> None:
        super().__init__()
        self.id = job_id
        """The job id on C2."""
        self.ref = f"{prefix}{job_id}"
        """The job id for the command `qslurm`, prefixed if the platform is not the default one (tuna:12)."""
        self.follow_up: int | None = None
        """The job id on C1 of its follow-up (`submit(…, then=…)`)."""
        self._center = center
        self.set_running_or_notify_cancel()

    def __repr__(self) -> str:
        return f"<Job {self.ref}{', ended' if self.done() else ''}>"

    def info(self) -> JobInfo:
        """The job's current record on C2: state, reason, times, partition, account."""
        return self._center.look(self.id)

    def tasks(self) -> list[JobInfo]:
        """The current state of each task of an array or a sweep; pending tasks may share a record."""
        return self._center.tasks(self.id)

    def status(self) -> str:
        """The state in one word: waiting, starting, running, completed, failed, cancelled, timed out, …"""
        return self.info().word

    def running(self) -> bool:
        """Whether the job is running on C2."""
        return not self.done() and self.info().word == "running"

    def cancel(self) -> bool:
        """Cancel the job; False if it had already ended."""
        return (not self.done() or self._is_unwatched) and self._center.cancel(self.id)

    @property
    def _is_unwatched(self) -> bool:
        """Whether the Center was closed before the job ended."""
        return isinstance(self.exception(), NotReadyError)

    def cancelled(self) -> bool:
        """Whether the job was cancelled."""
        return self.done() and isinstance(self.exception(), JobCancelledError)

    def logs(self) -> str:
        """The job's output so far."""
        return self._center.logs(self.id)

    def __await__(self) -> Generator[Any, None, Result]:
        # Without shield, cancelling the awaiting task would cancel the job.
        return asyncio.shield(asyncio.wrap_future(self)).__await__()
