"""Tie jobs on C2 to the C1 job that waits for them: when it is cancelled, they are, too."""

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
"""What batch systems send before they kill. Slurm: SIGCONT, SIGTERM, and SIGKILL after KillWait, to every process of
the job, when it is cancelled, preempted, or out of time (seen on 22.05)."""


class _TerminatedError(BaseException):
    """A batch system ends the job that this process is part of."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


@dataclass
class BoundSubmission:
    """What is waited for: a payload's key, of which C2 may have heard, and what has become of it so far."""

    key: str
    job_id: int | None = None
    over: bool = False
    """C2 has refused it, or it has ended."""


class C1JobBinding:
    """While its body runs, this process and what it has submitted end together, if it is part of a job on C1.

    When a batch system ends that job, those on C2 are cancelled, and the command exits as one ended by a signal does.
    What no process notices (SIGKILL, a node that fails) the center's agent does. A Ctrl-C at a terminal ends the
    waiting only, and so does everything else that is no such signal. With `keep` they never end together. `connect`
    opens further connections, for many cancellations at once.
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
        self._tied = False
        self._before: dict[int, Any] = {}
        self.submissions: list[BoundSubmission] = []
        """Who submits says here what becomes of each."""

    def add(self, payload: Mapping[str, Any]) -> BoundSubmission:
        """Wait for this payload's job, too, which is submitted now. From any thread."""
        from qslurm.payload.comment import Comment

        submission = BoundSubmission(Comment.parse(str(payload["job"].get("comment", ""))).key)
        self.submissions.append(submission)
        return submission

    def tie(self, connection: CenterConnection) -> CenterConnection:
        """The connection, by which what is submitted from now on depends on this job of C1."""
        if self._tied:
            connection.bind(waits=self._slurm_job)
        return connection

    def __enter__(self) -> C1JobBinding:
        if not self._in_a_job:
            return self
        if self._slurm_job and self._connection.follow_up_platform:
            self._tied = True
            self.tie(self._connection)
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
            signal.signal(number, signal.SIG_IGN if isinstance(error, _TerminatedError) else handler)
        if isinstance(error, _TerminatedError):
            self._cancel(str(error))
            raise click.exceptions.Exit(128 + error.number) from error
        if self._tied:  # what has not ended is waited for no longer, such as after --timeout
            self._let_go()

    def _let_go(self) -> None:
        left = [one for one in self.submissions if one.key and not one.over]
        try:
            for one in left:
                self._connection.unbind(one.key)
        except QslurmError as failure:
            jobs = _named([one.job_id for one in left if one.job_id])
            note(f"qslurm: {failure} {jobs.capitalize()} on C2 will be cancelled when this job on C1 ends.")

    def _cancel(self, why: str) -> None:
        """Cancel what was submitted: first that, then words."""
        self._connection.close()  # it may be in the middle of an answer
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
        elif self._tied and any(one.job_id is None for one in lost):
            note(f"This job received {why}; the center's agent cancels what it submitted.")

    def _cancelled(self, jobs: Sequence[int]) -> tuple[list[int], QslurmError | None]:
        """The jobs that are cancelled, and why others, if any, are not."""
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
        """What was being sent: it may be on its way yet."""
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
            signal.signal(other, signal.SIG_IGN)  # the next one must not break off what this one begins
    raise _TerminatedError(number)
