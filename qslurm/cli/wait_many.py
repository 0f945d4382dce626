"""`qslurm wait` for several jobs."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import click

from qslurm.cli.job_progress import ProgressReporter, ended_document, results_or_none
from qslurm.cli.output import ProgressLine, error_document, note, print_json, print_table
from qslurm.errors import JobCancelledError, JobFailedError, QslurmError, TimedOutError, UnreachableError

if TYPE_CHECKING:
    from qslurm.c1.connection.center_connection import CenterConnection
    from qslurm.c1.queries.job_ids import JobRef
    from qslurm.c1.queries.tasks import Tasks

    End = tuple[Tasks | None, QslurmError | None]

WORST: tuple[type[QslurmError], ...] = (JobFailedError, TimedOutError, JobCancelledError)
"""The worst first, as among an array's tasks; any other error, such as an unknown job, is worse."""


def wait_for_all(
    jobs: Sequence[tuple[CenterConnection, JobRef]], timeout_s: float | None, *, as_json: bool
) -> None:
    """Wait for each job and print its final state; exits with the worst job's code.

    `timeout_s` limits the wait for all of them together.
    """
    found = wait_for_each(jobs, timeout_s)
    failures = [failure for _, failure in found if failure is not None]
    print_errors(failures)
    if as_json:
        print_json({"jobs": [_document(*one, *how) for one, how in zip(jobs, found, strict=True)]})
    else:
        print_table(
            ("JOBID", "STATE"),
            [
                (str(job), ended.word if ended else "unknown")
                for (_, job), (ended, _) in zip(jobs, found, strict=True)
            ],
        )
    if failures:
        raise click.exceptions.Exit(worst_of(failures).exit_code)


def wait_for_each(
    jobs: Sequence[tuple[CenterConnection, JobRef]],
    timeout_s: float | None,
    on_end: Callable[[int], None] = lambda _: None,
) -> list[End]:
    """Wait for each job, `timeout_s` for all together; their last states (None if unknown) and errors.

    `on_end` is called with the position of each job that has ended.
    """
    until = None if timeout_s is None else time.monotonic() + timeout_s
    found: list[End] = []
    try:
        for number, (center, job) in enumerate(jobs, 1):
            left = None if until is None else max(0.0, until - time.monotonic())
            end = _waited(center, job, left, f"{number} of {len(jobs)}, " if len(jobs) > 1 else "")
            if left is not None and left < (timeout_s or 0) and isinstance(end[1], TimedOutError):
                end = end[0], _timeout_of_all(job, end, timeout_s or 0)
            found.append(end)
            if end[0] is not None and end[0].is_final:
                on_end(number - 1)
    except UnreachableError as error:  # also for the others, which are not waited for as long again
        found += [(None, error)] * (len(jobs) - len(found))
    except KeyboardInterrupt:
        note(f"\nThe jobs continue; {len(found)} of {len(jobs)} have ended.")
        raise
    return found


def _timeout_of_all(job: JobRef, end: End, timeout_s: float) -> QslurmError | None:
    """A job's time-out error with the time of the whole wait, not only what was left for this job."""
    tasks, error = end
    if error is None or (tasks is not None and tasks.is_final):  # the job's own time limit
        return error
    return TimedOutError(f"Job {job} has not ended after {timeout_s:g} s; it continues.", hint=error.hint)


def print_errors(failures: Sequence[QslurmError]) -> None:
    """Print each distinct error once."""
    for message in dict.fromkeys(map(str, failures)):
        note(f"qslurm: {message}")


def worst_of(failures: Sequence[QslurmError]) -> QslurmError:
    """The one whose exit code counts."""
    return min(failures, key=_rank)


def _rank(failure: QslurmError) -> int:
    return next((place for place, kind in enumerate(WORST) if isinstance(failure, kind)), -1)


def _waited(center: CenterConnection, job: JobRef, timeout_s: float | None, place: str) -> End:
    from qslurm.c1.queries import tasks

    try:
        with ProgressLine() as line:
            ended = tasks.wait(center, job, on_poll=ProgressReporter(job, line, place), timeout_s=timeout_s)
        return ended, tasks.outcome_error(center, ended)
    except UnreachableError:
        raise
    except TimedOutError as error:
        try:
            return tasks.look(center, job), error
        except QslurmError:
            return None, error
    except QslurmError as error:
        return None, error


def _document(
    center: CenterConnection, job: JobRef, ended: Tasks | None, failure: QslurmError | None
) -> dict[str, Any]:
    about: dict[str, Any] = {"job_id": job.job_id, "id": str(job)}
    if ended is not None:
        about |= ended_document(ended, center.prefix)
    if failure is not None:
        return {**about, "error": error_document(failure)}
    try:
        return {**about, "results": results_or_none(center, job)}
    except QslurmError as error:  # the platform knows better than Slurm how the job ended
        return {**about, "error": error_document(error)}
