"""`qslurm cancel`: what scancel is for Slurm."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

import click

from qslurm.cli.all_platforms import query_all
from qslurm.cli.list_filters import (
    account_option,
    job_filter,
    me_option,
    name_option,
    states_in,
    submitter_option,
)
from qslurm.cli.output import error_document, note, print_json
from qslurm.cli.shared_options import CenterFlags, JobId, center_options, json_option
from qslurm.errors import QslurmError, RefusedError

if TYPE_CHECKING:
    from qslurm.c1.connection.center_connection import CenterConnection
    from qslurm.c1.queries.job_ids import JobRef
    from qslurm.slurm.job_info import JobInfo

CancelOutcome: TypeAlias = "list[str] | QslurmError | None"
"""C2's warnings, or the error; None if the cancellation was not sent."""


@click.command()
@click.argument("jobs", type=JobId(anywhere=True), nargs=-1, metavar="[JOBID...]")
@click.option("--partition", "-p", metavar="NAME", help="Only jobs in these partitions (comma-separated).")
@click.option(
    "--state",
    "--states",
    "-t",
    metavar="STATES",
    help="Only jobs in these states (comma-separated): PENDING, RUNNING.",
)
@name_option
@account_option
@me_option
@submitter_option
@json_option
@center_options
def cancel(
    *,
    jobs: tuple[JobRef, ...],
    partition: str | None,
    state: str | None,
    name: str | None,
    account: str | None,
    me: bool,
    submitter: str | None,
    as_json: bool,
    center: CenterFlags,
) -> None:
    """Cancel pending or running jobs: those named, or your own jobs that match the options.

    With both, those named that match. To cancel another user's job, name it, or its submitter with -u.

    \b
    Examples:
      qslurm cancel 12 13
      qslurm cancel 14_3 tuna:12
      qslurm cancel --me
      qslurm cancel -n bell -t PENDING
      qslurm cancel -t PENDING 14
    """
    chooses = me or any(word is not None for word in (partition, state, name, account, submitter))
    if not jobs and not chooses:
        raise click.UsageError("No job given. Name job ids, or select with --me, -n, -p, -t or -A.")
    targets = [center.of(job)[1] for job in jobs]
    away: list[QslurmError] = []
    if chooses:
        wanted = states_in(state, option="--state")
        chosen = job_filter(name, account, me or not (jobs or submitter), submitter)
        targets, away = _fitting(
            center,
            targets,
            lambda job: (
                (partition is None or job.partition in partition.split(","))
                and (not wanted or job.state in wanted)
                and chosen(job)
            ),
        )
    outcomes = _cancelled(center, targets)
    for job, outcome in outcomes.items():
        for warning in outcome if isinstance(outcome, list) else ():
            note(f"Job {job}: {warning}")
    if chooses:
        done = sum(outcome == [] for outcome in outcomes.values())
        note(f"Cancelled {done} of {len(targets)} jobs." if targets else "No pending or running job matches.")
    failures = [outcome for outcome in outcomes.values() if isinstance(outcome, QslurmError)]
    for failure in failures[:-1]:
        note(f"qslurm: {failure}")
    one = len(jobs) == 1 and not chooses
    if failures and (one or not as_json):
        raise failures[-1]
    if as_json:
        answers = [_answer(job, outcome) for job, outcome in outcomes.items()]
        print_json(answers[0] if one else {"jobs": answers})
    if failures:
        note(f"qslurm: {failures[-1]}")
    if failures or away:
        raise click.exceptions.Exit(max(error.exit_code for error in (*failures, *away)))


def _fitting(
    center: CenterFlags, named: Sequence[JobRef], fits: Callable[[JobInfo], bool]
) -> tuple[list[JobRef], list[QslurmError]]:
    """Pending and running jobs that match, of those named or of all; and the reported errors of platforms."""
    from qslurm.c1.queries.cancelling import to_cancel
    from qslurm.c1.queries.lists import queue_with_positions

    def listed(connection: CenterConnection) -> list[JobInfo]:
        return [job for job, _ in queue_with_positions(connection)]

    prefixes = dict.fromkeys(ref.platform for ref in named)
    found = query_all(center, listed, [prefix or center.config().platform for prefix in prefixes] or None)
    fitting = []
    for config, jobs in found.answers:
        platform = config.prefix.rstrip(":")
        among = [ref for ref in named if ref.platform == platform]
        fitting += [replace(ref, platform=platform) for ref in to_cancel(jobs, fits, among)]
    return fitting, list(found.failures.values())


def _cancelled(center: CenterFlags, jobs: Sequence[JobRef]) -> dict[JobRef, CancelOutcome]:
    """The outcome for each job. Stops at a platform that does not answer."""
    from qslurm.c1.submission.parallel import for_each

    outcomes: dict[JobRef, CancelOutcome] = {}
    for platform in dict.fromkeys(job.platform for job in jobs):
        part = [job for job in jobs if job.platform == platform]
        connection = center.open(platform)
        at_once = connection.submissions_at_once
        connection.close()
        connect = partial(center.open, platform)
        done = for_each(connect, part, _cancel, connections=at_once, item_error=RefusedError)
        outcomes |= dict(zip(part, done, strict=True))
    return outcomes


def _cancel(connection: CenterConnection, job: JobRef) -> list[str]:
    return connection.slurm.cancel(job.job_id, job.task)


def _answer(job: JobRef, outcome: CancelOutcome) -> dict[str, Any]:
    """The JSON document of a job to cancel."""
    about: dict[str, Any] = {"job_id": job.job_id, "id": str(job)}
    if job.task is not None:
        about["array_task_id"] = job.task
    if isinstance(outcome, list):
        return {**about, "cancelled": not outcome, "warnings": outcome}
    return {**about, "cancelled": False, "error": error_document(outcome) if outcome else None}
