"""Selects the jobs to cancel by state and name, as scancel does."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from qslurm.c1.queries.job_ids import JobRef
from qslurm.errors import InvalidInputError
from qslurm.payload.array import parse_array

if TYPE_CHECKING:
    from qslurm.slurm.job_info import JobInfo


def to_cancel(
    jobs: Iterable[JobInfo], fits: Callable[[JobInfo], bool], among: Sequence[JobRef] = ()
) -> list[JobRef]:
    """The pending and running jobs that match; with `among`, only those named there.

    An array is cancelled as a whole if all its remaining tasks match, else task by task. InvalidInputError if Slurm
    does not list its pending tasks: it abbreviates long lists ("1,3,5,...").
    """
    left: dict[int, list[JobInfo]] = defaultdict(list)
    for job in jobs:
        if not job.is_final:
            left[job.array_or_job_id].append(job)
    named = {(ref.job_id, ref.task) for ref in among}
    found: list[JobRef] = []
    for job_id, records in left.items():
        fitting = [job for job in records if fits(job)]
        all_named = not named or (job_id, None) in named
        if all_named and len(fitting) == len(records):
            found.append(JobRef(job_id))
            continue
        tasks = [task for job in fitting for task in _tasks_of(job) if all_named or (job_id, task) in named]
        found += [JobRef(job_id, task) for task in tasks]
    return found


def _tasks_of(job: JobInfo) -> Iterable[int]:
    if job.array_job_id is None:
        return ()
    if not job.array_tasks:
        return () if job.array_task_id is None else (job.array_task_id,)
    try:
        return parse_array(job.array_tasks).indices
    except InvalidInputError as error:
        raise InvalidInputError(
            f"C2 does not list the pending tasks of array {job.array_job_id}: {job.array_tasks}.",
            hint=f"`qslurm cancel {job.array_job_id}` cancels all of it.",
        ) from error
