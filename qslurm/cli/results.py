"""`qslurm results` and `qslurm logs`: what came out of a job."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from qslurm.cli.options import CenterFlags, center_options, job_id_argument, json_option
from qslurm.cli.output import bars, note, print_json


@click.command()
@job_id_argument
@json_option
@center_options
def results(job_id: int, as_json: bool, center: CenterFlags) -> None:
    """Print what job JOBID measured (a circuit's counts) or computed (a hybrid job's final result).

    \b
    Examples:
      qslurm results 12
      qslurm results 12 --json | jq .counts
    """
    from qslurm.center.jobs import fetch_results

    document = fetch_results(center.open(), job_id)
    if as_json:
        print_json(document)
    else:
        print_results(document)


@click.command()
@job_id_argument
@json_option
@center_options
def logs(job_id: int, as_json: bool, center: CenterFlags) -> None:
    """Print what job JOBID has written to its output so far.

    \b
    Example:  qslurm logs 12
    """
    import sys

    pieces = center.open().results.log(job_id)
    if as_json:
        print_json({"job_id": job_id, "log": b"".join(pieces).decode(errors="replace")})
        return
    if sys.stdout is None:
        return
    for piece in pieces:
        sys.stdout.buffer.write(piece)
    sys.stdout.buffer.flush()


def print_results(document: Mapping[str, Any]) -> None:
    """A job's results for people: bars for counts, indented JSON for a final result."""
    import msgspec

    if document["kind"] == "circuit":
        counts = document.get("counts") or {}
        click.echo("\n".join(bars(counts)) or "no counts")
        note(f"{document.get('shots') or 0} shots")
    elif document["kind"] == "hybrid":
        final_result = document.get("final_result")
        click.echo(msgspec.json.format(msgspec.json.encode(final_result)).decode())
        note(f"{document.get('executions') or 0} executions")
    else:
        note("A batch script has no results of its own; `qslurm logs` prints what it wrote.")
    if document.get("reason"):
        note(str(document["reason"]))
