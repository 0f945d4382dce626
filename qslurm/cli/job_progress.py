"""Progress of a job during `wait`, and the documents of ended jobs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qslurm.cli.output import ProgressLine, job_document, note
from qslurm.cli.time_format import duration
from qslurm.errors import JobCancelledError, JobFailedError, QslurmError, TimedOutError

if TYPE_CHECKING:
    from qslurm.c1.connection.center_connection import CenterConnection
    from qslurm.c1.connection.polling import Poll, Waitable
    from qslurm.c1.queries.job_ids import JobRef
    from qslurm.c1.queries.tasks import Tasks
    from qslurm.slurm.job_info import JobInfo


def results_or_none(center: CenterConnection, job: JobRef) -> dict[str, Any] | None:
    """Results of a completed job, or None if they cannot be read (a note says why).

    Raises the job's error if the platform, unlike Slurm, knows that it did not complete.
    """
    from qslurm.c1.queries.fetching import results

    if not center.has_job_manager:
        return None
    try:
        return results(center, job)
    except (JobFailedError, JobCancelledError, TimedOutError):
        raise
    except QslurmError as error:
        note(f"qslurm: {error}")
        return None


def situation(job: Waitable) -> str:
    """A job's state, with the reason if there is one."""
    return f"{job.word}: {job.why}" if job.why else job.word


def progress(job: JobRef, poll: Poll) -> str:
    """One line of progress about a job."""
    if poll.job is None:
        return f"job {job}: no answer from C2 for {duration(poll.silent_s)}; retrying"
    return f"job {job}: {situation(poll.job)} ({duration(poll.waited_s)})"


class ProgressReporter:
    """Shows a job's progress; an unreachable C2 is reported even where no progress line is shown."""

    def __init__(self, job: JobRef, line: ProgressLine, place: str = "") -> None:
        from qslurm.c1.connection.polling import OutageReporter

        self._job, self._line, self._place = job, line, place
        self._outages = OutageReporter(self._say)

    def __call__(self, poll: Poll) -> None:
        """Show the result of a poll."""
        if poll.job is None:
            self._outages.no_answer(poll.error)
        else:
            self._outages.answered()
        self._line.show(self._place + progress(self._job, poll))

    def _say(self, sentence: str) -> None:
        self._line.clear()
        note(f"qslurm: {sentence}")


def ended_document(ended: Tasks, prefix: str) -> dict[str, Any]:
    """A job that has ended, or an array's tasks, as a document."""
    if not ended.is_array:
        return task_document(ended.jobs[0], prefix)
    return {"job_id": ended.ref.job_id, "tasks": [task_document(job, prefix) for job in ended.jobs]}


def task_document(job: JobInfo, prefix: str) -> dict[str, Any]:
    """A job, or a task of an array with its parameters, as a document."""
    from qslurm.c1.queries.tasks import parameters_of

    document, values = job_document(job, prefix), parameters_of(job)
    return {**document, "parameters": values} if values else document
