"""What a job's future is told: how C2 says that the job has ended, and what it gave."""

from __future__ import annotations

from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from typing import TYPE_CHECKING

from qslurm.c1.api.result import Result, result_of
from qslurm.errors import NotReadyError

if TYPE_CHECKING:
    from qslurm.c1.connection.center_connection import CenterConnection
    from qslurm.slurm.job_info import JobInfo


class ArrayFutures:
    """An array of which each task has a future of its own, by its index; the watcher looks after all at once."""

    def __init__(self, job_id: int, number: int) -> None:
        self.id = job_id
        self.futures: list[Future[Result]] = [Future() for _ in range(number)]
        for future in self.futures:
            future.set_running_or_notify_cancel()

    def done(self) -> bool:
        """Whether all have ended."""
        return all(future.done() for future in self.futures)

    def set_result(self, result: Result) -> None:
        """All are through: each has its own result already."""

    def set_exception(self, error: BaseException) -> None:
        """Nobody can say how those are that have not ended."""
        for future in self.futures:
            with suppress(InvalidStateError):
                future.set_exception(error)


def settled(center: CenterConnection, job_id: int) -> Result | None:
    """The result of a job, None while it is under way; raises how it ended otherwise."""
    from qslurm.c1.queries import job_state

    info = job_state.look(center, job_id)
    if info.array_job_id == job_id:
        return _settle_array(center, job_id)
    if not info.is_final:
        return None
    return _result(center, info)


def tasks_settled(center: CenterConnection, array: ArrayFutures) -> Result | None:
    """Tell the futures of those tasks that have ended; None while there are others."""
    from qslurm.c1.queries import tasks
    from qslurm.c1.queries.job_ids import JobRef

    ref = JobRef(array.id)
    seen = tasks.look(center, ref, forgotten=False).jobs
    known = {index: job for job in seen for index in tasks.indices_of(job)}
    left = {index for index, future in enumerate(array.futures) if not future.done()}
    if not left <= set(known):  # slurmctld forgets tasks that ended while others run; to look there is slow
        known |= {index: job for job in tasks.look(center, ref).jobs for index in tasks.indices_of(job)}
    for index in sorted(left & set(known)):
        _tell(center, known[index], array.futures[index])
    return Result(array.id, "") if array.done() else None


def _tell(center: CenterConnection, job: JobInfo, future: Future[Result]) -> None:
    from qslurm.errors import UnreachableError

    if not job.is_final:
        return
    try:
        result = _result(center, job)
    except UnreachableError:
        raise
    except Exception as error:  # noqa: BLE001 -- it is that task's, and who waits for it must hear of it
        with suppress(InvalidStateError):  # the Center was closed meanwhile
            future.set_exception(error)
    else:
        if result is not None:
            with suppress(InvalidStateError):
                future.set_result(result)


def _result(center: CenterConnection, job: JobInfo) -> Result | None:
    """The result of an ended job; None if the platform has not written it down yet. Raises how it failed."""
    from qslurm.c1.queries import job_state

    failure = job_state.outcome_error(center, job)
    if failure is not None:
        raise failure
    if job.marks.kind == "script" or not center.has_job_manager:
        return Result(job.job_id, job.marks.kind or "script")
    with suppress(NotReadyError):  # Slurm may say that it has ended a moment earlier
        document = center.job_manager.results(job.job_id)
        if (
            failure := job_state.result_error(center, document)
        ) is not None:  # the platform knows better than Slurm
            raise failure
        return result_of(document)
    return None


def _settle_array(center: CenterConnection, job_id: int) -> Result | None:
    from qslurm.c1.queries import fetching, tasks
    from qslurm.c1.queries.job_ids import JobRef

    array = JobRef(job_id)
    found = tasks.look(center, array)
    if not found.is_final:
        return None
    failure = tasks.outcome_error(center, found)
    if failure is not None:
        raise failure
    kind = found.jobs[0].marks.kind or "script"
    if kind == "script" or not center.has_job_manager:
        return Result(job_id, kind)
    with suppress(NotReadyError):
        documents = fetching.results(center, array)["tasks"]
        if not any("error" in document for document in documents):
            return Result(job_id, kind, tasks=[result_of(document) for document in documents])
    return None
