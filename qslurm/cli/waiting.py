"""A job on C1 that waits for one on C2, which it takes along when it is ended."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Mapping
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any, NoReturn

import click

from qslurm.cli.output import note
from qslurm.errors import QslurmError

if TYPE_CHECKING:
    from qslurm.center.connection import Center

ENDING = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
"""What batch systems send before they kill. Slurm: SIGCONT, SIGTERM, and SIGKILL after KillWait, to every process of
the job, when it is cancelled, preempted, or out of time (seen on 22.05)."""


class _Ended(BaseException):
    """A batch system ends the job that this process is part of."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


class Waiting:
    """While its body runs, this process and what it has submitted end together, if it is part of a job on C1.

    When a batch system ends that job, the one on C2 is cancelled, and the command exits as one ended by a signal does.
    What no process notices (SIGKILL, a node that fails) the center's agent does. A Ctrl-C at a terminal ends the
    waiting only, and so does everything else that is no such signal.
    """

    def __init__(
        self, connection: Center, payload: Mapping[str, Any], environ: Mapping[str, str] | None = None
    ) -> None:
        from qslurm.center.origin import of_process, slurm_job
        from qslurm.payload.comment import Comment

        environ = os.environ if environ is None else environ
        self._connection = connection
        self._key = Comment.parse(str(payload["job"].get("comment", ""))).key
        self._in_a_job = of_process(environ).system != "shell"
        self._slurm_job = slurm_job(environ)
        self._tied = False
        self._before: dict[int, Any] = {}
        self.job_id: int | None = None
        """The job on C2, once it has an id."""

    def __enter__(self) -> Waiting:
        if not self._in_a_job:
            return self
        if self._key and self._slurm_job and self._connection.follow_ups:
            self._connection.depend(waits=self._slurm_job)
            self._tied = True
        at_a_terminal = sys.stdin is not None and sys.stdin.isatty()
        for number in ENDING:
            ignored = signal.getsignal(number) == signal.SIG_IGN  # as under nohup
            if not ignored and not (number == signal.SIGINT and at_a_terminal):
                self._before[number] = signal.signal(number, _end)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, signal.SIG_IGN if isinstance(error, _Ended) else handler)
        if isinstance(error, _Ended):
            self._cancel(str(error))
            raise click.exceptions.Exit(128 + error.number) from error
        if error is not None and self._tied:
            self._let_go()

    def _let_go(self) -> None:
        try:
            self._connection.let_go(self._key)
        except QslurmError as failure:
            note(f"qslurm: {failure} When this job on C1 ends, job {self.job_id or ''} on C2 is cancelled.")

    def _cancel(self, why: str) -> None:
        """Cancel what was submitted: first that, then words."""
        self._connection.close()  # it may be in the middle of an answer
        job_id = self.job_id
        try:
            if job_id is None and self._key:
                job_id = self._found()
            if not job_id:
                if self._tied:
                    note(
                        f"This job is being ended ({why}); what it submitted is cancelled by the center's agent."
                    )
                return
            self._connection.slurm.cancel(job_id)
        except QslurmError as error:
            note(
                f"qslurm: This job is being ended ({why}), and job {job_id or ''} on C2 can't be cancelled: {error}"
            )
        else:
            note(f"This job is being ended ({why}), so job {job_id} on C2 is cancelled; --keep lets it live.")

    def _found(self) -> int | None:
        """What was being sent: it may be on its way yet."""
        for pause_s in (0.0, 0.5, 1.0):
            time.sleep(pause_s)
            found = self._connection.slurm.find_by_key(self._key)
            if found is not None:
                return found.job_id
        return None


def _end(number: int, _: FrameType | None) -> NoReturn:
    raise _Ended(number)
