"""Results and logs of jobs, arrays and array tasks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from qslurm.c1.queries import job_state as one
from qslurm.c1.queries.job_ids import JobRef
from qslurm.c1.queries.tasks import Tasks, look, outcome_error, parameters_of, separate_records
from qslurm.errors import (
    InvalidInputError,
    NotReadyError,
    QslurmError,
    UnknownJobError,
    UnreachableError,
)

if TYPE_CHECKING:
    from qslurm.c1.connection.center_connection import CenterConnection
    from qslurm.slurm.job_info import JobInfo


AT_ONCE = 250
"""Jobs per request for results."""


def results(center: CenterConnection, ref: JobRef) -> dict[str, Any]:
    """A job's results, or {"job_id", "tasks": [...]} with those of each task of an array.

    Each task says its `id`, `state` and `parameters` (of many files, its `file`), and has results, or an `error`.
    Raises the error of a job that did not complete; NotReadyError if there are no results yet, UnreachableError if the
    job manager does not answer.
    """
    if ref.task is None:
        failure: QslurmError | None = None
        try:
            document = fetch_results(center, ref.job_id)
            if "#" not in str(document.get("key", "")):  # the key of an array's task ends in its index
                return document
        except QslurmError as error:
            failure = error
        tasks = _if_array(center, ref, failure)
        if tasks is None:
            assert failure is not None
            raise failure
        documents = _results(center, tasks.jobs)
        if not any("error" not in document for document in documents):
            if tasks.is_final and (failure := outcome_error(center, tasks)) is not None:
                raise failure
            raise NotReadyError(
                f"No task of job {ref} has results yet: {tasks.word}.",
                hint=f"`qslurm wait {ref}` waits for them.",
            )
        return {"job_id": ref.job_id, "state": tasks.word, "tasks": documents}
    job = look(center, ref).jobs[0]
    return _fetched(center, job)


def _if_array(center: CenterConnection, ref: JobRef, failure: QslurmError | None) -> Tasks | None:
    try:
        tasks = look(center, ref)
    except QslurmError as error:
        raise (failure or error) from error
    return tasks if tasks.is_array else None


def _results(center: CenterConnection, jobs: Sequence[JobInfo]) -> list[dict[str, Any]]:
    """Each task's results or error. UnreachableError if the job manager does not answer for the first one."""
    documents: list[dict[str, Any]] = []
    unreachable: UnreachableError | None = None
    known = results_of(center, [job.job_id for job in jobs if job.start_time is not None])
    shared: dict[int, QslurmError] = {}  # errors of tasks that never started, which share a job id
    for job in separate_records(jobs):
        try:
            if unreachable is not None:
                raise unreachable
            if job.job_id in shared:
                raise shared[job.job_id]
            documents.append(_fetched(center, job, known))
        except QslurmError as error:
            unreachable = error if isinstance(error, UnreachableError) else None
            if job.array_tasks and job.is_final:
                shared[job.job_id] = error
            if unreachable is not None and not documents:
                raise
            about = {"id": job.shown_id, "state": job.word, "parameters": parameters_of(job)}
            document = {
                "code": error.exit_code,
                "type": error.kind,
                "message": error.message,
                "hint": error.hint,
            }
            documents.append({**about, "error": document})
    return documents


def _fetched(
    center: CenterConnection, job: JobInfo, known: Mapping[int, dict[str, Any]] = MappingProxyType({})
) -> dict[str, Any]:
    if not job.is_final and job.start_time is None:  # its job id may be the array's
        raise NotReadyError(
            f"Job {center.prefix}{job.shown_id} has no results yet, it is {job.word}"
            f"{f' ({job.why})' if job.why else ''}.",
            hint=f"`qslurm wait {center.prefix}{job.array_or_job_id}` waits for it.",
        )
    document = fetch_results(center, job.job_id, job, known)
    parameters = parameters_of(job)
    if document.get("name", job.name) != job.name:  # a task with its own file is named after it on C2
        parameters["file"] = str(document["name"])
    return {"id": job.shown_id, "parameters": parameters, **document}


def follow_log(
    center: CenterConnection,
    ref: JobRef,
    write: Callable[[bytes], None],
    sleep: Callable[[float], None],
    say: Callable[[str], None] = lambda _: None,
) -> None:
    """Pass a job's output to `write` as it arrives, until the job has ended.

    An unreachable C2 is tolerated as by `wait`, and reported with `say`.
    """
    from qslurm.c1.connection.polling import follow

    def ended() -> bool:
        return look(center, ref).is_final

    def read(offset: int) -> tuple[bytes, int]:
        return center.job_manager.log_from(log_id(center, ref), offset)

    follow(ended, read, write, say=say, sleep=sleep)


def log_id(center: CenterConnection, ref: JobRef) -> int:
    """The job id of a log; InvalidInputError for an array as a whole."""
    if ref.task is not None:
        job = look(center, ref).jobs[0]
        if not job.is_final and job.start_time is None:
            raise UnknownJobError(f"Job {ref} has not started, so it has no log.")
        return job.job_id
    document = one.platform_facts(center, ref.job_id)
    if "#" in str(document.get("key", "")):
        raise InvalidInputError(
            f"Job {ref} is an array; each task has its own log.", hint=f"Name a task, for example {ref}_0."
        )
    return ref.job_id


def results_of(center: CenterConnection, job_ids: Sequence[int]) -> dict[int, dict[str, Any]]:
    """The results of several jobs by id, in few requests; jobs that are missing must be queried separately.

    Empty if C2 or the center's agent does not support this request. UnreachableError if the job manager is down.
    """
    found: dict[int, dict[str, Any]] = {}
    left = list(job_ids) if len(job_ids) > 1 and center.has_job_manager else []
    while left:
        try:
            documents = center.job_manager.many_results(left[:AT_ONCE])
        except (UnknownJobError, InvalidInputError):  # an older version
            break
        answered = {document.get("job_id") for document in documents}
        if not answered & set(left):
            break
        found |= {document["job_id"]: document for document in documents if "error" not in document}
        left = [job_id for job_id in left if job_id not in answered]
    return found


def fetch_results(
    center: CenterConnection,
    job_id: int,
    job: JobInfo | None = None,
    known: Mapping[int, dict[str, Any]] = MappingProxyType({}),
) -> dict[str, Any]:
    """A job's results; `job` is its record if known, `known` holds results already fetched.

    Raises the error of a job that did not complete, NotReadyError if there are no results yet, or UnknownJobError.
    """
    name = f"{center.prefix}{job_id}"
    try:
        if job is not None and str(known.get(job_id, {}).get("key", "?")).partition("#")[0] == job.marks.key:
            document = dict(known[job_id])  # not those of an earlier job with the same id
        else:
            document = center.job_manager.results(job_id)
        if (failure := one.result_error(center, document)) is not None:
            raise failure
        return document
    except UnknownJobError:
        job = job or one.look(center, job_id)  # a job that never started is known to Slurm only
    if job.is_final:
        raise (
            one.outcome_error(center, job) or UnknownJobError(f"Job {name} has no results on this platform.")
        )
    raise NotReadyError(
        f"Job {name} has no results yet, it is {job.word}{f' ({job.why})' if job.why else ''}.",
        hint=f"`qslurm wait {name}` waits for it.",
    )
