"""`qslurm submit`: what a researcher writes in an sbatch script."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from qslurm.cli.backend_selection import place, settled
from qslurm.cli.options import (
    CenterFlags,
    Seconds,
    Whole,
    account_options,
    center_options,
    json_option,
    where_options,
)
from qslurm.cli.output import note, print_json
from qslurm.cli.submission_report import patience, say_submitted, say_warnings
from qslurm.errors import RefusedError

if TYPE_CHECKING:
    from qslurm.c1.config.settings import Config
    from qslurm.c1.connection.center import Center
    from qslurm.c1.followups.submission import Condition
    from qslurm.c1.submission.backend_limits import Limits
    from qslurm.c1.submission.options import Request
    from qslurm.slurm.rest import Submitted


@click.command()
@click.argument("files", nargs=-1, type=click.Path(path_type=Path, readable=False), metavar="[FILE]...")
@click.option(
    "--template", metavar="NAME", help="Render this payload template instead of the file kind's own."
)
@click.option(
    "--set",
    "variables",
    metavar="NAME=VALUE",
    multiple=True,
    help="A value for {{ NAME }} in a circuit, for qi.parameters, for the template; may be repeated.",
)
@where_options(qubits="For --backend any: how many qubits the job needs.", show_default="the circuit's")
@click.option(
    "--job-name", "-J", "name", metavar="NAME", show_default="the file's name", help="The job's name."
)
@click.option(
    "--shots", "-s", type=Whole(1), metavar="N", show_default="the backend's", help="Shots of a circuit."
)
@click.option("--seed", type=Whole(0), metavar="N", help="Make an emulator repeat itself.")
@click.option("--raw-data", is_flag=True, help="Keep each shot's bits, not only their counts.")
@click.option("--time", "-t", "time_limit", metavar="LIMIT", help="Time limit, written as for sbatch.")
@click.option(
    "--qpu-seconds",
    type=Seconds(1e9),
    metavar="SECONDS",
    show_default="the backend's",
    help="End the job when its circuits have kept the backend busy for so long.",
)
@account_options
@click.option(
    "--dependency",
    "-d",
    metavar="LIST",
    help="Start after other jobs of C2, such as afterok:12; as for sbatch.",
)
@click.option("--array", "-a", metavar="INDEXES", help="A job for each index, such as 0-9 or 0-99%4.")
@click.option(
    "--sweep",
    metavar="NAME=VALUES",
    multiple=True,
    help="A job for each value of {{ NAME }}: FROM:TO:STEP, FROM:TO/COUNT or a list; several make a grid.",
)
@click.option(
    "--begin", metavar="TIME", help="Start no earlier, such as 16:00, now+1hour or 2026-11-22T16:00."
)
@click.option("--hold", "-H", is_flag=True, help="Hold the job until `qslurm release`.")
@click.option("--comment", metavar="TEXT", help="A word of yours, shown beside the job.")
@click.option(
    "--export",
    metavar="NAMES",
    show_default="none",
    help="Variables for the job: NAME or NAME=VALUE, with commas.",
)
@click.option(
    "--wait", "-W", is_flag=True, help="Wait for the jobs to end, print their results, exit as the worst."
)
@click.option(
    "--keep",
    is_flag=True,
    help="With --wait: let the jobs live when the job on C1 that waits for them is ended.",
)
@click.option(
    "--then",
    "then_script",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    metavar="SCRIPT",
    help="Submit SCRIPT here on C1, held until the job has ended.",
)
@click.option(
    "--then-if",
    type=click.Choice(("ok", "any", "failed")),
    show_default="ok",
    help="How the job must end for SCRIPT to run; else it is cancelled.",
)
@click.option(
    "--timeout",
    "timeout_s",
    type=Seconds(),
    metavar="SECONDS",
    help="With --wait: wait no longer than this; the jobs go on, and the exit code is 8.",
)
@click.option(
    "--separate", is_flag=True, help="Make each of many files a job of its own, and no array of them."
)
@click.option("--parsable", is_flag=True, help="Print only the job id.")
@click.option("--dry-run", is_flag=True, help="Print the payload and send nothing.")
@json_option
@center_options
def submit(
    *,
    files: tuple[Path, ...],
    variables: tuple[str, ...],
    wait: bool,
    keep: bool,
    then_script: Path | None,
    then_if: Condition | None,
    timeout_s: float | None,
    separate: bool,
    parsable: bool,
    dry_run: bool,
    as_json: bool,
    center: CenterFlags,
    **asked: Any,
) -> None:
    """Send FILE to C2: a circuit (.cq, .qasm), a hybrid Python file (.py), a batch script (.sh), a raw payload (.json).

    Several files are several jobs with the same options; nothing is sent unless all of them are good. From 20 on they
    are the tasks of an array (12_0, 12_1 …), which C2 takes in one request. --wait waits for all; the worst end is
    the exit code.

    \b
    Examples:
      qslurm submit bell.cq --backend qx --shots 4096 --wait
      jobid=$(qslurm submit vqe.py --backend spin2 --parsable)
      qslurm submit bell.cq --backend qx --begin 18:00 --dependency afterok:12
      qslurm submit rabi.cq --backend qx --sweep theta=0:3.14:0.1
      qslurm submit circuits/*.cq --backend qx --parsable > ids
      qslurm submit a.cq b.cq c.cq --backend qx --wait --json > results.json
      qslurm submit bell.cq --backend any --platform tuna
      qslurm submit bell.cq --backend qx --dry-run | jq .job
      qslurm submit - --backend qx < bell.cq
      jq ".job.nodes = \"1\"" payload.json | qslurm submit -
      qslurm submit vqe.py --backend spin2 --then analysis.sbatch

    SCRIPT finds the job in $QSLURM_C2_JOB:  qslurm results $QSLURM_C2_JOB --json

    Ctrl-C ends the waiting, not the jobs. When a job on C1 that waits is cancelled, preempted or out of time, its jobs
    on C2 are cancelled, too, unless --keep is given. If its process is killed at once (kill -9, a node that fails), the
    center's agent does that; where there is no agent the jobs on C2 go on, so give them a --time.

    Options may stand in FILE as well, above its first line of code:  #QSLURM --shots 4096  (in cQASM:  // #QSLURM …).
    """
    from qslurm.c1.submission.options import Request, variables_of

    values = variables_of(variables)
    requests = [
        Request(file=file, variables=values, platform=center.platform, **asked) for file in files or (None,)
    ]
    _refuse_idle_options(
        many=len(requests) > 1,
        wait=wait,
        timeout=timeout_s is not None,
        keep=keep,
        then=then_script,
        then_if=then_if,
    )
    center.patience_s = patience(wait=wait, timeout_s=timeout_s)
    platform, requests = place(center, _settled(center, requests))
    if len(requests) > 1:
        from qslurm.cli.submit_many import How, submit_files

        how = How(separate, dry_run, parsable, as_json, wait, keep, timeout_s)
        submit_files(requests, center, platform, how)
        return
    if dry_run:
        print_json(_prepared(center.platforms.config(platform), requests[0]))
        return
    from qslurm.c1.submission.backend_limits import limits_of

    connection = center.open(platform)
    payload = _prepared(connection.config, requests[0], limits_of(connection))
    if then_script is not None:
        from qslurm.c1.followups.submission import followed

        with followed(connection, payload, then_script, then_if or "ok", note) as follow_up:
            submitted = _send(connection, payload)
        say_submitted(connection, payload, submitted, parsable=parsable, as_json=as_json, follow_up=follow_up)
        return
    try:
        if wait:
            from qslurm.cli.waiting import Waiting

            with Waiting(connection, lambda: center.open(platform), keep=keep) as waiting:
                submission = waiting.add(payload)
                submitted = _send(connection, payload)
                submission.job_id = submitted.job_id
                _wait(connection, payload, submitted, timeout_s, parsable=parsable, as_json=as_json)
                submission.over = True
        else:
            submitted = _send(connection, payload)
            say_submitted(connection, payload, submitted, parsable=parsable, as_json=as_json)
    except RefusedError as error:
        from qslurm.cli.submit_many import How, submit_files

        how = How(True, dry_run, parsable, as_json, wait, keep, timeout_s)
        submit_files(_parts(requests[0], error), center, platform, how)


def _parts(request: Request, error: RefusedError) -> list[Request]:
    """A sweep in parts that C2 has refused as one array; the refusal if it was about something else."""
    from qslurm.c1.submission.packing import swept_in_parts
    from qslurm.c1.submission.sending import is_too_large

    parts = swept_in_parts(request)
    if not is_too_large(error) or len(parts) == 1:
        raise error
    note("C2 takes no array of so many tasks, so the sweep is sent as several.")
    return parts


def _refuse_idle_options(
    *, many: bool, wait: bool, timeout: bool, keep: bool, then: Path | None, then_if: Condition | None
) -> None:
    """UsageError for options that mean nothing beside each other."""
    if many and then:
        raise click.UsageError("--then is for one file; an array or a sweep is one job with one follow-up.")
    if then and wait:
        raise click.UsageError("--then is there to wait for nothing; leave out --wait.")
    if then_if and not then:
        raise click.UsageError("--then-if says when the script of --then runs, and there is none.")
    if timeout and not wait:
        raise click.UsageError("--timeout is how long --wait waits, and that is not given.")
    if keep and not wait:
        raise click.UsageError("--keep is about a job that is waited for, with --wait.")


def _wait(
    connection: Center,
    payload: Mapping[str, Any],
    submitted: Submitted,
    timeout_s: float | None,
    *,
    parsable: bool,
    as_json: bool,
) -> None:
    from qslurm.c1.queries.job_ids import JobRef
    from qslurm.cli.jobs import wait_and_print

    if as_json:  # one document, at the end
        say_warnings(payload, submitted.warnings)
    else:
        say_submitted(connection, payload, submitted, parsable=parsable, as_json=False)
    job = JobRef(submitted.job_id, platform=connection.config.prefix.rstrip(":"))
    wait_and_print(connection, job, timeout_s, as_json=as_json, quiet=parsable)


def _settled(center: CenterFlags, requests: Sequence[Request]) -> list[Request]:
    return settled(
        requests, lambda request: _prepared(center.platforms.config(request.platform or ""), request)
    )


def _prepared(config: Config, request: Request, limits: Limits | None = None) -> dict[str, Any]:
    """The payload of a settled request."""
    import os

    from qslurm.c1.submission.backend_limits import nothing_known
    from qslurm.c1.submission.request import prepare

    return prepare(config, request, os.environ, note, limits or nothing_known)


def _send(connection: Center, payload: dict[str, Any]) -> Submitted:
    from qslurm.c1.queries import jobs

    try:
        return jobs.submit(connection, payload)
    except KeyboardInterrupt:
        note(f"\nThe job was being sent, and C2 may have it. {jobs.how_to_look(payload)}")
        raise
