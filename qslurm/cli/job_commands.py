"""`qslurm show`, `wait`, `hold`, `release`: commands on jobs of C2."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from qslurm.cli import streams
from qslurm.cli.job_progress import (
    ProgressReporter,
    ended_document,
    results_or_none,
    situation,
    task_document,
)
from qslurm.cli.output import ProgressLine, note, print_facts, print_json, print_table
from qslurm.cli.shared_options import CenterFlags, JobId, Seconds, center_options, job_argument, json_option
from qslurm.cli.submission_report import api_version
from qslurm.cli.time_format import clock_time
from qslurm.errors import QslurmError

if TYPE_CHECKING:
    from qslurm.c1.config.settings import Config
    from qslurm.c1.connection.center_connection import CenterConnection
    from qslurm.c1.queries.job_ids import JobRef
    from qslurm.c1.queries.tasks import Tasks
    from qslurm.slurm.job_info import JobInfo

jobs_argument = click.argument("jobs", type=JobId(anywhere=True), nargs=-1, required=True, metavar="JOBID...")


@click.command()
@job_argument
@json_option
@center_options
def show(job: JobRef, as_json: bool, center: CenterFlags) -> None:
    """Show job JOBID: for an array (12) each of its tasks, for a task (12_3) that one.

    Prefix the id of a job on a platform other than the default with the platform's name: tuna:12.

    \b
    Examples:
      qslurm show 12
      qslurm show tuna:12_3
    """
    from qslurm.c1.queries.job_state import platform_facts
    from qslurm.c1.queries.lists import with_exit_code, with_exit_codes
    from qslurm.c1.queries.tasks import look

    connection, job = center.of(job)
    tasks = look(connection, job)
    if tasks.is_array:
        if as_json:
            found = with_exit_codes(connection, tasks.jobs)
            documents = [task_document(one, connection.prefix) for one in found]
            print_json({"job_id": job.job_id, "api_version": api_version(connection), "tasks": documents})
        else:
            _print_tasks(tasks)
        return
    one = tasks.jobs[0]
    _say_if_sent_again(job, one)
    platform: dict[str, Any] = {}
    try:
        platform = platform_facts(connection, one.job_id)
    except QslurmError as error:
        note(f"qslurm: Cannot read the job's record from C2's job manager: {error}")
    if as_json:
        if str(platform.get("key")).partition("#")[0] == one.marks.key:  # the id may be another job's by now
            one = with_exit_code(one, platform)
        document = task_document(one, connection.prefix)
        print_json({**document, "api_version": api_version(connection), "platform": platform or None})
        return
    _print_job(one, connection.config, platform)


def _print_job(job: JobInfo, config: Config, platform: dict[str, Any]) -> None:
    from qslurm.c1.origin import describe
    from qslurm.c1.queries.tasks import parameters_of
    from qslurm.slurm.states import is_reason

    marks = job.marks
    print_facts(
        {
            "job": f"{config.prefix}{job.shown_id} {platform.get('name') or job.name}",
            "platform": config.platform if len(config.platforms) > 1 else None,
            "state": situation(job),
            "why": None if is_reason(str(platform.get("reason") or "")) else platform.get("reason"),
            **parameters_of(job),
            "backend": marks.backend,
            "partition": job.partition,
            "account": job.account,
            "origin": describe(marks.origin),
            "comment": marks.note,
            "submitted": clock_time(job.submit_time),
            "started": clock_time(job.start_time),
            "ended": clock_time(job.end_time),
            "restarts": job.restart_count or None,
            "executions": platform.get("executions"),
            "shots": platform.get("shots"),
            "QPU time": f"{platform['qpu_seconds']:.3f} s" if platform.get("qpu_seconds") else None,
            "key": marks.key,
        }
    )


def _print_tasks(tasks: Tasks) -> None:
    from qslurm.c1.queries.tasks import parameters_of

    values = [parameters_of(job) for job in tasks.jobs]
    names = list(dict.fromkeys(name for one in values for name in one))
    print_table(
        ("JOBID", *names, "STATE", "STARTED", "ENDED", "REASON"),
        [
            (
                *(tasks.ref.beside(job.shown_id), *(one.get(name) for name in names), job.state),
                *(clock_time(job.start_time), clock_time(job.end_time), job.why),
            )
            for job, one in zip(tasks.jobs, values, strict=True)
        ],
    )


@click.command()
@jobs_argument
@click.option(
    "--timeout",
    "timeout_s",
    type=Seconds(),
    metavar="SECONDS",
    help="Give up after this time.",
)
@json_option
@center_options
def wait(jobs: tuple[JobRef, ...], timeout_s: float | None, as_json: bool, center: CenterFlags) -> None:
    """Wait for jobs to end; exit 0, 6 (failed), 7 (cancelled) or 8 (timed out). Prints the results of a single job.

    Given several jobs, or an array, waits for all of them and exits with the worst job's code. Ctrl-C ends the
    wait, not the jobs.

    \b
    Examples:
      qslurm wait 12 && qslurm results 12 --json
      qslurm submit a.cq b.cq c.cq --backend qx --parsable | xargs qslurm wait
    """
    if len(jobs) == 1:
        connection, job = center.of(jobs[0])
        wait_and_print(connection, job, timeout_s, as_json=as_json)
        return
    from qslurm.cli.wait_many import wait_for_all

    wait_for_all([center.of(job) for job in jobs], timeout_s, as_json=as_json)


@click.command()
@jobs_argument
@json_option
@center_options
def hold(jobs: tuple[JobRef, ...], as_json: bool, center: CenterFlags) -> None:
    """Hold pending jobs until `qslurm release`.

    \b
    Example:  qslurm hold 12
    """
    _set_hold(center, jobs, held=True, as_json=as_json)


@click.command()
@jobs_argument
@json_option
@center_options
def release(jobs: tuple[JobRef, ...], as_json: bool, center: CenterFlags) -> None:
    """Release jobs that were held by `qslurm hold` or submitted with --hold.

    \b
    Example:  qslurm release 12
    """
    _set_hold(center, jobs, held=False, as_json=as_json)


def _set_hold(center: CenterFlags, jobs: tuple[JobRef, ...], *, held: bool, as_json: bool) -> None:
    from qslurm.c1.queries.tasks import set_hold

    for job in jobs:
        if job.task is not None:
            raise click.BadParameter(
                f"{job} is an array task. Hold or release the whole array: {job.job_id}."
            )
    found = [center.of(job) for job in jobs]
    for connection, job in found:
        for warning in set_hold(connection, job.job_id, held=held):
            note(f"Job {job}: {warning}")
    if as_json:
        print_json({"jobs": [{"job_id": job.job_id, "id": str(job), "hold": held} for _, job in found]})


def wait_and_print(
    center: CenterConnection, job: JobRef, timeout_s: float | None, *, as_json: bool, quiet: bool = False
) -> None:
    """Wait for a job and print its results; raises the error of a job that did not complete."""
    from qslurm.c1.queries import tasks

    try:
        with ProgressLine() as line:
            ended = tasks.wait(center, job, on_poll=ProgressReporter(job, line), timeout_s=timeout_s)
    except KeyboardInterrupt:
        note(f"\nJob {job} continues. `qslurm wait {job}` waits again, `qslurm cancel {job}` cancels it.")
        raise
    if not ended.is_array:
        _say_if_sent_again(job, ended.jobs[0])
    failure = tasks.outcome_error(center, ended)
    if failure is not None:
        raise failure
    if quiet:
        return
    results = results_or_none(center, job)
    if as_json:
        print_json({**ended_document(ended, center.prefix), "results": results})
    elif results is None:
        streams.write(f"Job {job} completed")
    else:
        from qslurm.cli.results import print_results

        print_results(results)


def _say_if_sent_again(job: JobRef, found: JobInfo) -> None:
    """Tell the user the new id of a job that C2 lost and the agent resubmitted."""
    if job.task is None and found.job_id not in (0, job.job_id):
        note(f"qslurm: C2 lost job {job}; the center's agent resubmitted it as job {found.job_id}.")
