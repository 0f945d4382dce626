"""`qslurm show`, `wait`, `cancel`, `hold`, `release`: one job on C2, or a few."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from qslurm.cli.options import CenterFlags, JobId, Seconds, center_options, job_id_argument, json_option
from qslurm.cli.output import ProgressLine, error_document, job_document, note, print_facts, print_json
from qslurm.cli.times import clock_time, duration
from qslurm.errors import QslurmError, RefusedError

if TYPE_CHECKING:
    from qslurm.center.connection import Center
    from qslurm.center.waiting import Poll
    from qslurm.slurmrest import JobInfo


@click.command()
@job_id_argument
@json_option
@center_options
def show(job_id: int, as_json: bool, center: CenterFlags) -> None:
    """Show all that C2 knows of job JOBID.

    \b
    Example:  qslurm show 12
    """
    from qslurm.center.jobs import look, platform_facts
    from qslurm.center.origin import describe

    connection = center.open()
    job = look(connection, job_id)
    platform = platform_facts(connection, job_id) or {}
    if as_json:
        about = {"api_version": connection.slurm.api_version, "platform": platform or None}
        print_json({**job_document(job), **about})
        return
    said = job.marks
    print_facts(
        {
            "job": f"{job.job_id} {job.name}",
            "state": situation(job),
            "why": platform.get("reason"),
            "backend": said.backend,
            "partition": job.partition,
            "account": job.account,
            "origin": describe(said.origin),
            "comment": said.note,
            "submitted": clock_time(job.submit_time),
            "started": clock_time(job.start_time),
            "ended": clock_time(job.end_time),
            "restarts": job.restart_count or None,
            "executions": platform.get("executions"),
            "shots": platform.get("shots"),
            "QPU time": f"{platform['qpu_seconds']:.3f} s" if platform.get("qpu_seconds") else None,
            "key": said.key,
        }
    )


@click.command()
@job_id_argument
@click.option(
    "--timeout",
    "timeout_s",
    type=Seconds(),
    metavar="SECONDS",
    help="Wait no longer.",
)
@json_option
@center_options
def wait(job_id: int, timeout_s: float | None, as_json: bool, center: CenterFlags) -> None:
    """Wait for job JOBID to end, and print its results; exit 0, 6 (failed), 7 (cancelled) or 8 (timed out).

    Ctrl-C ends the waiting, not the job.

    \b
    Example:  qslurm wait 12 && qslurm results 12 --json
    """
    wait_and_print(center.open(), job_id, timeout_s, as_json=as_json)


@click.command()
@click.argument("job_ids", type=JobId(), nargs=-1, required=True, metavar="JOBID...")
@json_option
@center_options
def cancel(job_ids: tuple[int, ...], as_json: bool, center: CenterFlags) -> None:
    """Cancel jobs, pending or running. A job that has ended already stays as it is.

    \b
    Example:  qslurm cancel 12 13
    """
    connection = center.open()
    failures: list[QslurmError] = []
    answers: list[dict[str, Any]] = []
    for job_id in job_ids:
        try:
            warnings = connection.slurm.cancel(job_id)
        except RefusedError as error:
            failures.append(error)
            answers.append({"job_id": job_id, "cancelled": False, "error": error_document(error)})
        else:
            answers.append({"job_id": job_id, "cancelled": not warnings, "warnings": warnings})
            for warning in warnings:
                note(f"Job {job_id}: {warning}")
    for failure in failures[:-1]:
        note(f"qslurm: {failure}")
    if failures:
        if as_json and len(job_ids) > 1:
            note(f"qslurm: {failures[-1]}")
            print_json({"jobs": answers})
            raise click.exceptions.Exit(failures[-1].exit_code)
        raise failures[-1]
    if as_json:
        print_json(answers[0] if len(answers) == 1 else {"jobs": answers})


@click.command()
@click.argument("job_ids", type=JobId(), nargs=-1, required=True, metavar="JOBID...")
@json_option
@center_options
def hold(job_ids: tuple[int, ...], as_json: bool, center: CenterFlags) -> None:
    """Keep jobs that wait from starting, until `qslurm release`.

    \b
    Example:  qslurm hold 12
    """
    _set_hold(center.open(), job_ids, held=True, as_json=as_json)


@click.command()
@click.argument("job_ids", type=JobId(), nargs=-1, required=True, metavar="JOBID...")
@json_option
@center_options
def release(job_ids: tuple[int, ...], as_json: bool, center: CenterFlags) -> None:
    """Let jobs start that were submitted with --hold, or held since.

    \b
    Example:  qslurm release 12
    """
    _set_hold(center.open(), job_ids, held=False, as_json=as_json)


def _set_hold(center: Center, job_ids: tuple[int, ...], *, held: bool, as_json: bool) -> None:
    for job_id in job_ids:
        for warning in center.slurm.update(job_id, {"hold": held}):
            note(f"Job {job_id}: {warning}")
    if as_json:
        print_json({"jobs": [{"job_id": job_id, "hold": held} for job_id in job_ids]})


def wait_and_print(
    center: Center, job_id: int, timeout_s: float | None, *, as_json: bool, quiet: bool = False
) -> None:
    """Wait for a job and print what came of it; raises the error of a job that did not complete."""
    from qslurm.center import jobs

    try:
        with ProgressLine() as line:
            job = jobs.wait(
                center, job_id, on_poll=lambda poll: line.show(_progress(job_id, poll)), timeout_s=timeout_s
            )
    except KeyboardInterrupt:
        note(
            f"\nJob {job_id} goes on: `qslurm wait {job_id}` returns to it, `qslurm cancel {job_id}` ends it."
        )
        raise
    failure = jobs.outcome_error(center, job)
    if failure is not None:
        raise failure
    if quiet:
        return
    results = _results_or_none(center, job_id)
    if as_json:
        print_json({**job_document(job), "results": results})
    elif results is None:
        click.echo(f"Job {job_id} completed")
    else:
        from qslurm.cli.results import print_results

        print_results(results)


def _results_or_none(center: Center, job_id: int) -> dict[str, Any] | None:
    """Results of a completed job, where there are any to be had; that it completed is said by the exit code."""
    if not center.has_platform:
        return None
    try:
        return center.results.results(job_id)
    except QslurmError as error:
        note(f"qslurm: {error}")
        return None


def situation(job: JobInfo) -> str:
    """A job's state in words, with the reason if there is one."""
    return f"{job.word}: {job.why}" if job.why else job.word


def _progress(job_id: int, poll: Poll) -> str:
    if poll.job is None:
        return f"job {job_id}: C2 has not answered for {duration(poll.silent_s)}; still trying"
    return f"job {job_id}: {situation(poll.job)} ({duration(poll.waited_s)})"
