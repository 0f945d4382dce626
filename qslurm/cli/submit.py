"""`qslurm submit`: what a researcher writes in an sbatch script."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from qslurm.cli.options import LARGEST, CenterFlags, Seconds, center_options, json_option
from qslurm.cli.output import note, print_json
from qslurm.cli.placing import place, settled

if TYPE_CHECKING:
    from qslurm.center.asked import Request
    from qslurm.center.connection import Center
    from qslurm.center.settings import Config
    from qslurm.slurmrest import Submitted

HELD = "held state"
"""In Slurm's warning, of every version, that a job is held."""


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
@click.option(
    "--backend",
    "-b",
    metavar="NAME",
    help="The quantum backend, such as qx or spin2; any: the first free one that fits.",
)
@click.option(
    "--qubits",
    type=click.IntRange(1, LARGEST),
    metavar="N",
    show_default="the circuit's",
    help="For --backend any: how many qubits the job needs.",
)
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
    type=Seconds(1e9),
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
    are the tasks of an array (12_0, 12_1 …), which C2 takes in one request.

    \b
    Examples:
      qslurm submit bell.cq --backend qx --shots 4096 --wait
      jobid=$(qslurm submit vqe.py --backend spin2 --parsable)
      qslurm submit bell.cq --backend qx --begin 18:00 --dependency afterok:12
      qslurm submit rabi.cq --backend qx --sweep theta=0:3.14:0.1
      qslurm submit circuits/*.cq --backend qx --parsable > ids
      qslurm submit bell.cq --backend any --platform tuna
      qslurm submit bell.cq --backend qx --dry-run | jq .job

    Options may stand in FILE as well, above its first line of code:  #QSLURM --shots 4096  (in cQASM:  // #QSLURM …).
    """
    from qslurm.center.asked import Request, variables_of

    values = variables_of(variables)
    requests = [
        Request(file=file, variables=values, platform=center.platform, **asked) for file in files or (None,)
    ]
    if len(requests) > 1 and (wait or timeout_s is not None):
        raise click.UsageError("--wait is for one file; `qslurm wait` waits for each of many.")
    platform, requests = place(center, _settled(center, requests))
    if len(requests) > 1:
        from qslurm.cli.submit_many import submit_files

        how = {"separate": separate, "dry_run": dry_run, "parsable": parsable, "as_json": as_json}
        submit_files(requests, center, platform, **how)
        return
    if dry_run:
        print_json(_prepared(center.platforms.config(platform), requests[0]))
        return
    connection = center.open(platform)
    config = connection.config
    payload = _prepared(config, requests[0])
    submitted = _send(connection, payload)
    say_warnings(payload, submitted.warnings)
    partition, shown_id = payload["job"].get("partition"), f"{config.prefix}{submitted.job_id}"
    said = f"Submitted job {shown_id} to {partition} on {shown_place(config)}"
    try:
        if parsable:
            click.echo(shown_id)
        elif not as_json:
            click.echo(said)
        elif not wait:
            about = {"job_id": submitted.job_id, "id": shown_id, "platform": config.platform}
            # with an agent the version is another question, so it is asked only where it is shown
            version, warnings = connection.slurm.api_version, submitted.warnings
            print_json({**about, "partition": partition, "api_version": version, "warnings": warnings})
    except OSError:  # whatever has become of stdout: the job is there, and this is its only name
        note(said)
        raise
    if wait:
        from qslurm.center.refs import JobRef
        from qslurm.cli.jobs import wait_and_print

        job = JobRef(submitted.job_id, platform=config.prefix.rstrip(":"))
        wait_and_print(connection, job, timeout_s, as_json=as_json, quiet=parsable)


def _settled(center: CenterFlags, requests: Sequence[Request]) -> list[Request]:
    return settled(
        requests, lambda request: _prepared(center.platforms.config(request.platform or ""), request)
    )


def shown_place(config: Config) -> str:
    """What a platform is called in a sentence."""
    return config.platform if len(config.platforms) > 1 else "C2"


def _prepared(config: Config, request: Request) -> dict[str, Any]:
    """The payload of a settled request."""
    import os

    from qslurm.center.request import prepare

    return prepare(config, request, os.environ, note)


def _send(connection: Center, payload: dict[str, Any]) -> Submitted:
    from qslurm.center import jobs

    jobs.refuse_unknown_dependency(connection, payload)
    try:
        return jobs.submit(connection, payload)
    except KeyboardInterrupt:
        note(f"\nThe job was being sent, and C2 may have it. {jobs.how_to_look(payload)}")
        raise


def say_warnings(payload: Mapping[str, Any], warnings: Sequence[str]) -> None:
    """Tell what C2 said of a job that it took."""
    for warning in warnings:
        if not (payload["job"].get("hold") and HELD in warning):  # as it was asked for
            note(f"C2 says: {warning}")
