"""Outcomes of files submitted together: a document and a row for each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from qslurm.c1.queries import job_state as one
from qslurm.c1.queries.fetching import fetch_results, results_of
from qslurm.c1.queries.job_ids import JobRef
from qslurm.c1.queries.tasks import task_of
from qslurm.cli.job_progress import ended_document, results_or_none
from qslurm.cli.output import error_document, print_json
from qslurm.cli.results import print_results
from qslurm.errors import NotReadyError, QslurmError, UnreachableError

if TYPE_CHECKING:
    from qslurm.c1.connection.center_connection import CenterConnection
    from qslurm.c1.queries.tasks import Tasks
    from qslurm.c1.submission.packing import Package
    from qslurm.cli.wait_many import End
    from qslurm.slurm.job_info import JobInfo


def add_outcomes(
    documents: Mapping[tuple[int, int], dict[str, Any]],
    package: Package,
    center: CenterConnection,
    ref: JobRef,
    end: End,
) -> None:
    """Add the state, and the results or the error, to the documents of a package's files."""
    tasks, failure = end
    known: Mapping[int, dict[str, Any]] | UnreachableError = {}
    if package.is_array and tasks is not None:
        known = _known(center, tasks)
    for task, member in enumerate(package.members):
        document = documents[member, package.skip]
        try:
            if tasks is None:
                raise failure or NotReadyError(f"The state of job {ref} is unknown.")
            if package.is_array:
                mine = JobRef(ref.job_id, task, ref.platform)
                document |= _task(center, task_of(tasks.jobs, mine), failure, known)
            else:
                document |= _job(center, ref, tasks, failure)
        except QslurmError as error:
            document |= {"state": "unknown", "error": error_document(error)}


def _known(center: CenterConnection, tasks: Tasks) -> Mapping[int, dict[str, Any]] | UnreachableError:
    """The results of the completed tasks, read in one request, or the error of that request."""
    ended = [job.job_id for job in tasks.jobs if job.is_final and job.outcome == "completed"]
    try:
        return results_of(center, ended)
    except UnreachableError as error:  # do not query a thousand jobs one by one
        return error


def _task(
    center: CenterConnection,
    job: JobInfo,
    failure: QslurmError | None,
    known: Mapping[int, dict[str, Any]] | UnreachableError,
) -> dict[str, Any]:
    """The outcome of a file that is one task of its package's array."""
    outcome = {"state": job.word}
    error = one.outcome_error(center, job) if job.is_final else failure
    if error is None:
        try:
            if isinstance(known, UnreachableError):
                raise known
            results = fetch_results(center, job.job_id, job, known) if center.has_job_manager else None
            return {**outcome, "results": results}
        except QslurmError as failed:  # the state is known
            error = failed
    return {**outcome, "error": error_document(error)}


def _job(center: CenterConnection, ref: JobRef, tasks: Tasks, failure: QslurmError | None) -> dict[str, Any]:
    """The outcome of a file that is a separate job, which may be an array."""
    outcome: dict[str, Any] = {"state": tasks.word}
    if tasks.is_array:
        outcome["tasks"] = ended_document(tasks, center.prefix)["tasks"]
    if failure is not None:
        return {**outcome, "error": error_document(failure)}
    return {**outcome, "results": results_or_none(center, ref)}


def print_outcomes(documents: Sequence[dict[str, Any]], *, as_json: bool) -> None:
    """Print one document, or a row for each file and for each task of a sweep."""
    if as_json:
        print_json({"jobs": documents})
        return
    rows = [row for document in documents if document["job_id"] for row in _rows(document)]
    print_results({"tasks": rows})


def _rows(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    about = {"id": document["id"], "state": document["state"], "parameters": {"file": document["file"]}}
    if document.get("error"):
        return [{**about, "error": document["error"]}]
    results = document.get("results") or {"kind": "script"}
    if "tasks" not in results:
        return [{**results, **about}]
    return [
        {**task, "parameters": {**about["parameters"], **task["parameters"]}} for task in results["tasks"]
    ]
