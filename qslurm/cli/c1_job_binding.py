"""Binds jobs on C2 to the C1 job that waits for them: when it is cancelled, they are cancelled."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any, NoReturn

import click

from qslurm.cli.output import note
from qslurm.errors import QslurmError

if TYPE_CHECKING:
    from qslurm.c1.connection.center_connection import CenterConnection

TERMINATING = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
"""Signals of batch systems before they kill a job. Slurm sends SIGCONT, SIGTERM, and SIGKILL after KillWait to every
process of a job that is cancelled, preempted, or out of time (seen on 22.05)."""


class _C1JobEndedError(BaseException):
    """The batch system ends the job of this process."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


@dataclass
class BoundSubmission:
    """A submission by its key, and its state so far; C2 may have it even without a job id here."""

    key: str
    job_id: int | None = None
    over: bool = False
    """Whether C2 has refused it, or it has ended."""


class C1JobBinding:
    """A context manager: if the C1 job of this process is ended in its block, the submitted jobs on C2 are cancelled.

    The command then exits like one ended by the signal. If the process cannot react (SIGKILL, a failed node), the
    center's agent cancels them. Ctrl-C at a terminal, and any other exception, end only the wait. With `keep`, or
    outside a batch job, it does nothing. `connect` opens further connections for concurrent cancellations.
    """

    def __init__(
        self,
        connection: CenterConnection,
        connect: Callable[[], CenterConnection],
        environ: Mapping[str, str] | None = None,
        *,
        keep: bool = False,
    ) -> None:
        from qslurm.c1.origin import of_process, slurm_job

        environ = os.environ if environ is None else environ
        self._connection = connection
        self._connect = connect
        self._in_a_job = not keep and of_process(environ).system != "shell"
        self._slurm_job = slurm_job(environ)
        self._is_bound = False
        self._before: dict[int, Any] = {}
        self.submissions: list[BoundSubmission] = []
        """The submissions; the caller updates their state."""

    def add(self, payload: Mapping[str, Any]) -> BoundSubmission:
        """Add a payload that is about to be submitted. Thread-safe."""
        from qslurm.payload.comment import Comment

        submission = BoundSubmission(Comment.parse(str(payload["job"].get("comment", ""))).key)
        self.submissions.append(submission)
        return submission

    def bind(self, connection: CenterConnection) -> CenterConnection:
        """Bind later submissions over this connection to this C1 job, and return it."""
        if self._is_bound:
            connection.bind(waits=self._slurm_job)
        return connection

    def __enter__(self) -> C1JobBinding:
        if not self._in_a_job:
            return self
        if self._slurm_job and self._connection.follow_up_platform:
            self._is_bound = True
            self.bind(self._connection)
        at_a_terminal = sys.stdin is not None and sys.stdin.isatty()
        for number in TERMINATING:
            ignored = signal.getsignal(number) == signal.SIG_IGN  # as under nohup
            if not ignored and not (number == signal.SIGINT and at_a_terminal):
                self._before[number] = signal.signal(number, _end)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, signal.SIG_IGN if isinstance(error, _C1JobEndedError) else handler)
        if isinstance(error, _C1JobEndedError):
            self._cancel(str(error))
            raise click.exceptions.Exit(128 + error.number) from error
        if self._is_bound:  # jobs that have not ended are no longer waited for, for example after --timeout
            self._unbind()

    def _unbind(self) -> None:
        left = [one for one in self.submissions if one.key and not one.over]
        try:
            for one in left:
                self._connection.unbind(one.key)
        except QslurmError as failure:
            jobs = _named([one.job_id for one in left if one.job_id])
            note(f"qslurm: {failure} {jobs.capitalize()} on C2 will be cancelled when this job on C1 ends.")

    def _cancel(self, why: str) -> None:
        """Cancel the submissions, then report it."""
        self._connection.close()  # a response may be incomplete
        left = [one for one in self.submissions if not one.over]
        lost = [one for one in left if one.job_id is None and one.key]
        failure: QslurmError | None = None
        try:
            self._look_up(lost)
        except QslurmError as error:
            failure = error
        jobs = [one.job_id for one in left if one.job_id is not None]
        cancelled, failed = self._cancelled(jobs)
        failure = failure or failed
        if cancelled:
            note(
                f"This job received {why}; cancelled {_named(cancelled)} on C2."
                f" Use --keep to keep {'it' if len(cancelled) == 1 else 'them'} running."
            )
        if failure is not None:
            others = [job for job in jobs if job not in cancelled]
            note(f"qslurm: This job received {why}; cannot cancel {_named(others)} on C2: {failure}")
        elif self._is_bound and any(one.job_id is None for one in lost):
            note(f"This job received {why}; the center's agent cancels what it submitted.")

    def _cancelled(self, jobs: Sequence[int]) -> tuple[list[int], QslurmError | None]:
        """The jobs that were cancelled, and the error of any other."""
        if len(jobs) == 1:
            try:
                self._connection.slurm.cancel(jobs[0])
            except QslurmError as error:
                return [], error
            return list(jobs), None
        from qslurm.c1.submission.parallel import for_each
        from qslurm.errors import RefusedError

        outcomes = for_each(
            self._connect,
            jobs,
            lambda center, job: center.slurm.cancel(job),
            connections=self._connection.submissions_at_once,
            item_error=RefusedError,
        )
        failures = [outcome for outcome in outcomes if isinstance(outcome, QslurmError)]
        done = [job for job, outcome in zip(jobs, outcomes, strict=True) if isinstance(outcome, list)]
        return done, failures[0] if failures else None

    def _look_up(self, lost: Sequence[BoundSubmission]) -> None:
        """Look up the submissions without a job id; they may still be arriving."""
        for pause_s in (0.0, 0.5, 1.0):
            if missing := [one for one in lost if one.job_id is None]:
                time.sleep(pause_s)
            for one in missing:
                found = self._connection.slurm.find_by_key(one.key)
                if found is not None and found.job_id:
                    one.job_id = found.array_or_job_id


def _named(jobs: Sequence[int | None]) -> str:
    if len(jobs) == 1:
        return f"job {jobs[0]}"
    return f"{len(jobs)} jobs" if jobs else "its submissions"


def _end(number: int, _: FrameType | None) -> NoReturn:
    for other in TERMINATING:
        if signal.getsignal(other) is _end:
            signal.signal(other, signal.SIG_IGN)  # a second signal must not interrupt the cancellations
    raise _C1JobEndedError(number)
