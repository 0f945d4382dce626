"""Whether a job has ended, and with what: a look at C2 for its future."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from qslurm.api.result import Result, result_of
from qslurm.errors import NotReadyError

if TYPE_CHECKING:
    from qslurm.center.connection import Center


def settled(center: Center, job_id: int) -> Result | None:
    """The result of a job that has completed, None while it is under way; raises how it ended else."""
    from qslurm.center import jobs

    info = jobs.look(center, job_id)
    if info.array_job_id == job_id:
        return _array(center, job_id)
    if not info.is_final:
        return None
    failure = jobs.outcome_error(center, info)
    if failure is not None:
        raise failure
    if info.marks.kind == "script" or not center.has_platform:
        return Result(job_id, info.marks.kind or "script")
    with suppress(NotReadyError):  # Slurm may say so a moment before the platform has written it down
        return result_of(center.results.results(job_id))
    return None


def _array(center: Center, job_id: int) -> Result | None:
    from qslurm.center import tasks
    from qslurm.center.refs import JobRef

    array = JobRef(job_id)
    found = tasks.look(center, array)
    if not found.is_final:
        return None
    failure = tasks.outcome_error(center, found)
    if failure is not None:
        raise failure
    kind = found.jobs[0].marks.kind or "script"
    if kind == "script" or not center.has_platform:
        return Result(job_id, kind)
    with suppress(NotReadyError):
        documents = tasks.results(center, array)["tasks"]
        if not any("error" in document for document in documents):
            return Result(job_id, kind, tasks=[result_of(document) for document in documents])
    return None
