"""`qslurm submit`: options, and the checks that they fit together."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from qslurm.cli.shared_options import CenterFlags, Seconds, center_options, job_options, json_option
from qslurm.cli.submission_report import outbox_timeout
from qslurm.cli.submit_preparation import read_all, select_platform

if TYPE_CHECKING:
    from qslurm.c1.followups.followup_submission import FollowUpCondition


@click.command()
@click.argument("files", nargs=-1, type=click.Path(path_type=Path, readable=False), metavar="[FILE]...")
@job_options("submit")
@click.option(
    "--wait",
    "-W",
    is_flag=True,
    help="Wait for the jobs to end, print their results, exit with the worst job's code.",
)
@click.option(
    "--keep",
    is_flag=True,
    help="With --wait: do not cancel the jobs when the waiting job on C1 ends.",
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
    help="How the job must end for SCRIPT to run; otherwise SCRIPT is cancelled.",
)
@click.option(
    "--timeout",
    "timeout_s",
    type=Seconds(),
    metavar="SECONDS",
    help="With --wait: stop waiting after this time, with exit code 8; the jobs continue.",
)
@click.option(
    "--separate", is_flag=True, help="Submit each of several files as a separate job, not as one array."
)
@click.option("--parsable", is_flag=True, help="Print only the job id.")
@click.option("--dry-run", is_flag=True, help="Print the payload without submitting it.")
@json_option
@center_options
def submit(
    *,
    files: tuple[Path, ...],
    variables: tuple[str, ...],
    wait: bool,
    keep: bool,
    then_script: Path | None,
    then_if: FollowUpCondition | None,
    timeout_s: float | None,
    separate: bool,
    parsable: bool,
    dry_run: bool,
    as_json: bool,
    center: CenterFlags,
    **options: Any,
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

    FILE may have options, too, above its first line of code:  #QSLURM --shots 4096  (in cQASM:  // #QSLURM …).
    """
    from qslurm.c1.submission.job_reader import variables_of
    from qslurm.cli.submit_batch import SubmitOptions, prepared, submit_jobs
    from qslurm.payload.spec import JobSpec

    values = variables_of(variables)
    jobs = [
        JobSpec(file=file, variables=values, platform=center.platform, **options) for file in files or (None,)
    ]
    _check_option_combinations(
        many=len(jobs) > 1,
        wait=wait,
        timeout=timeout_s is not None,
        keep=keep,
        then=then_script,
        then_if=then_if,
    )
    center.outbox_timeout_s = outbox_timeout(wait=wait, timeout_s=timeout_s)
    check = lambda job: prepared(center.platforms.config(job.platform or ""), [job])  # noqa: E731
    platform, jobs = select_platform(center, read_all(jobs, check))
    submit_options = SubmitOptions(
        separate=separate,
        dry_run=dry_run,
        parsable=parsable,
        as_json=as_json,
        wait=wait,
        keep=keep,
        timeout_s=timeout_s,
        then=then_script,
        then_if=then_if or "ok",
    )
    submit_jobs(jobs, center, platform, submit_options)


def _check_option_combinations(
    *, many: bool, wait: bool, timeout: bool, keep: bool, then: Path | None, then_if: FollowUpCondition | None
) -> None:
    """UsageError for options that exclude each other, or have no effect."""
    if many and then:
        raise click.UsageError("--then takes one file; an array or a sweep counts as one job.")
    if then and wait:
        raise click.UsageError("--then and --wait are mutually exclusive.")
    if then_if and not then:
        raise click.UsageError("--then-if requires --then.")
    if timeout and not wait:
        raise click.UsageError("--timeout requires --wait.")
    if keep and not wait:
        raise click.UsageError("--keep requires --wait.")
