"""A job on C2 as a future: `concurrent.futures.wait`, `as_completed` and `await` take it as they take any other."""

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
    """A job that C2 has accepted. `Center.submit` and `Center.job` make them.

    `result(timeout)` and `exception(timeout)` wait as those of any future: there is a TimeoutError after `timeout`
    seconds, and the job goes on. A job that did not complete raises JobFailedError, JobCancelledError or TimedOutError
    (its own time limit), with the reason that C2 gives.
    """

    def __init__(self, center: Center, job_id: int, prefix: str = "") -> None:
        super().__init__()
        self.id = job_id
        """The job id on C2."""
        self.ref = f"{prefix}{job_id}"
        """How the command `qslurm` calls the job: its id, behind the name of another platform than usual (tuna:12)."""
        self.follow_up: int | None = None
        """The id, here on C1, of the job that follows it, where `submit` was given one."""
        self._center = center
        self.set_running_or_notify_cancel()

    def __repr__(self) -> str:
        return f"<Job {self.ref}{', ended' if self.done() else ''}>"

    def info(self) -> JobInfo:
        """The job as C2 sees it now: state, reason, times, partition, account."""
        return self._center.look(self.id)

    def tasks(self) -> list[JobInfo]:
        """Each task of an array or a sweep as C2 sees it now; those that wait may share a record."""
        return self._center.tasks(self.id)

    def status(self) -> str:
        """The state in one word: waiting, starting, running, completed, failed, cancelled, timed out, …"""
        return self.info().word

    def running(self) -> bool:
        """Whether it runs on C2 at this moment."""
        return not self.done() and self.info().word == "running"

    def cancel(self) -> bool:
        """Have C2 cancel the job; False if it was over already."""
        return (not self.done() or self._is_given_up) and self._center.cancel(self.id)

    @property
    def _is_given_up(self) -> bool:
        """Whether nobody looks after it any more, because its Center was closed."""
        return isinstance(self.exception(), NotReadyError)

    def cancelled(self) -> bool:
        """Whether the job has ended, by being cancelled."""
        return self.done() and isinstance(self.exception(), JobCancelledError)

    def logs(self) -> str:
        """What the job has written so far."""
        return self._center.logs(self.id)

    def __await__(self) -> Generator[Any, None, Result]:
        # Who stops waiting does not mean to cancel the job: asyncio's own way from future to future would.
        return asyncio.shield(asyncio.wrap_future(self)).__await__()
