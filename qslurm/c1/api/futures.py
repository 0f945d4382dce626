"""Turns the state of an ended job into its future's result or exception."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from typing import TYPE_CHECKING

from qslurm.c1.api.result import Result, result_of
from qslurm.errors import NotReadyError, UnreachableError

if TYPE_CHECKING:
    from qslurm.c1.connection.center_connection import CenterConnection
    from qslurm.slurm.job_info import JobInfo


class ArrayFutures:
    """The futures of an array's tasks, by index; the watcher checks all of them together."""

    def __init__(self, job_id: int, number: int) -> None:
        self.id = job_id
        self.futures: list[Future[Result]] = [Future() for _ in range(number)]
        for future in self.futures:
            future.set_running_or_notify_cancel()

    def done(self) -> bool:
        """Whether all tasks have ended."""
        return all(future.done() for future in self.futures)

    def set_result(self, result: Result) -> None:
        """Do nothing: each task's future has its result already."""

    def set_exception(self, error: BaseException) -> None:
        """Set the exception of all tasks that have not ended."""
        for future in self.futures:
            with suppress(InvalidStateError):
                future.set_exception(error)


def settle_job(center: CenterConnection, job_id: int, reported: Sequence[JobInfo] = ()) -> Result | None:
    """The result of a job, or of an array as a whole; None while it has not ended. Raises the error it ended with.

    C2 is asked for the job's state unless it was `reported`.
    """
    from qslurm.c1.queries import fetching, tasks
    from qslurm.c1.queries.job_ids import JobRef

    ref = JobRef(job_id)
    found = tasks.look_lightly(center, ref, reported or None)
    if not found.is_final:
        return None
    if not found.is_array:
        return _result(center, found.jobs[0])
    failure = tasks.outcome_error(center, found)
    if failure is not None:
        raise failure
    kind = found.jobs[0].marks.kind or "script"
    if kind == "script" or not center.has_job_manager:
        return Result(job_id, kind)
    with suppress(NotReadyError):
        documents = fetching.results(center, ref)["tasks"]
        if not any("error" in document for document in documents):
            return Result(job_id, kind, tasks=[result_of(document) for document in documents])
    return None


def settle_tasks(
    center: CenterConnection, array: ArrayFutures, reported: Sequence[JobInfo] = ()
) -> Result | None:
    """Settle the futures of the tasks that have ended; None while there are others."""
    from qslurm.c1.queries import tasks
    from qslurm.c1.queries.job_ids import JobRef

    ref = JobRef(array.id)
    seen = tasks.look(center, ref, forgotten=False, reported=reported or None).jobs
    known = {index: job for job in seen for index in tasks.indices_of(job)}
    left = {index for index, future in enumerate(array.futures) if not future.done()}
    if not left <= set(known):  # slurmctld forgets ended tasks while others run; the accounting is slow
        known |= {index: job for job in tasks.look(center, ref).jobs for index in tasks.indices_of(job)}
    for index in sorted(left & set(known)):
        _settle_task(center, known[index], array.futures[index])
    return Result(array.id, "") if array.done() else None


def _settle_task(center: CenterConnection, job: JobInfo, future: Future[Result]) -> None:
    if not job.is_final:
        return
    try:
        result = _result(center, job)
    except UnreachableError:
        raise
    except Exception as error:  # noqa: BLE001 -- it is this task's, and its future's user must get it
        with suppress(InvalidStateError):  # the Center was closed meanwhile
            future.set_exception(error)
    else:
        if result is not None:
            with suppress(InvalidStateError):
                future.set_result(result)


def _result(center: CenterConnection, job: JobInfo) -> Result | None:
    """The result of an ended job; None if the platform has not stored it yet. Raises the error it ended with."""
    from qslurm.c1.queries import job_state

    failure = job_state.outcome_error(center, job)
    if failure is not None:
        raise failure
    if job.marks.kind == "script" or not center.has_job_manager:
        return Result(job.job_id, job.marks.kind or "script")
    with suppress(NotReadyError):  # Slurm may report the end a moment earlier
        document = center.job_manager.results(job.job_id)
        failure = job_state.result_error(center, document)
        if failure is not None:  # the platform knows better than Slurm how it ended
            raise failure
        return result_of(document)
    return None
