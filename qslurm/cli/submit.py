"""`qslurm submit`: what a researcher writes in an sbatch script."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from qslurm.cli.options import LARGEST, CenterFlags, Seconds, center_options, json_option
from qslurm.cli.output import note, print_json

HELD = "Slurm error 2042"


@click.command()
@click.argument("file", required=False, type=click.Path(path_type=Path, readable=False))
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
@click.option("--backend", "-b", metavar="NAME", help="The quantum backend, such as qx or spin2.")
@click.option("--partition", "-p", metavar="NAME", show_default="p_<backend>", help="C2's partition.")
@click.option(
    "--job-name", "-J", "name", metavar="NAME", show_default="the file's name", help="The job's name."
)
@click.option(
    "--shots", "-s", type=click.IntRange(1, LARGEST), show_default="the backend's", help="Shots of a circuit."
)
@click.option("--seed", type=click.IntRange(0, LARGEST), help="Make an emulator repeat itself.")
@click.option("--raw-data", is_flag=True, help="Keep each shot's bits, not only their counts.")
@click.option("--time", "-t", "time_limit", metavar="LIMIT", help="Time limit, written as for sbatch.")
@click.option(
    "--qpu-seconds",
    type=click.FloatRange(0, 1e9, min_open=True),
    show_default="the backend's",
    help="End the job when its circuits have kept the backend busy for so long.",
)
@click.option("--account", "-A", metavar="NAME", help="The account on C2.")
@click.option("--qos", "-q", metavar="NAME", help="The quality of service on C2.")
@click.option("--reservation", metavar="NAME", help="The reservation on C2.")
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
@click.option("--wait", "-W", is_flag=True, help="Wait for the job to end, and print its results.")
@click.option(
    "--timeout",
    "timeout_s",
    type=Seconds(),
    metavar="SECONDS",
    help="Wait no longer than this.",
)
@click.option("--parsable", is_flag=True, help="Print only the job id.")
@click.option("--dry-run", is_flag=True, help="Print the payload and send nothing.")
@json_option
@center_options
def submit(
    *,
    file: Path | None,
    variables: tuple[str, ...],
    wait: bool,
    timeout_s: float | None,
    parsable: bool,
    dry_run: bool,
    as_json: bool,
    center: CenterFlags,
    **asked: Any,
) -> None:
    """Send FILE to C2: a circuit (.cq, .qasm), a hybrid Python file (.py), a batch script (.sh), a raw payload (.json).

    \b
    Examples:
      qslurm submit bell.cq --backend qx --shots 4096 --wait
      jobid=$(qslurm submit vqe.py --backend spin2 --parsable)
      qslurm submit bell.cq --backend qx --begin 18:00 --dependency afterok:12
      qslurm submit rabi.cq --backend qx --sweep theta=0:3.14:0.1
      qslurm submit bell.cq --backend qx --dry-run | jq .job

    Options may stand in FILE as well, above its first line of code:  #QSLURM --shots 4096  (in cQASM:  // #QSLURM …).
    """
    import os

    from qslurm.center import jobs
    from qslurm.center.request import Request, prepare, unused_options, variables_of

    request = Request(file=file, variables=variables_of(variables), **asked)
    if unused := unused_options(request):
        note(
            f"{file} is sent as it is; {', '.join(unused)} {'say' if len(unused) > 1 else 'says'} nothing to it."
        )
    if dry_run:
        print_json(prepare(center.config(), request, os.environ, note))
        return
    connection = center.open()
    payload = prepare(connection.config, request, os.environ, note)
    jobs.refuse_unknown_dependency(connection, payload)
    try:
        submitted = jobs.submit(connection, payload)
    except KeyboardInterrupt:
        note(f"\nThe job was being sent, and C2 may have it. {jobs.how_to_look(payload)}")
        raise
    for warning in submitted.warnings:
        if not (payload["job"].get("hold") and HELD in warning):  # as it was asked for
            note(f"C2 says: {warning}")
    document: dict[str, Any] = {
        "job_id": submitted.job_id,
        "partition": payload["job"].get("partition"),
        "api_version": connection.slurm.api_version,
        "warnings": submitted.warnings,
    }
    said = f"Submitted job {submitted.job_id} to {document['partition']} on C2"
    try:
        if parsable:
            click.echo(submitted.job_id)
        elif not as_json:
            click.echo(said)
        elif not wait:
            print_json(document)
    except OSError:  # whatever has become of stdout: the job is there, and this is its only name
        note(said)
        raise
    if wait:
        from qslurm.center.refs import JobRef
        from qslurm.cli.jobs import wait_and_print

        wait_and_print(connection, JobRef(submitted.job_id), timeout_s, as_json=as_json, quiet=parsable)
