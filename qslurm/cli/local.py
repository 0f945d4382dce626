"""`qslurm run`: the whole quantum side on this machine, without Slurm."""

from __future__ import annotations

import sys
from contextlib import nullcontext, redirect_stdout
from pathlib import Path

import click

from qslurm.cli.options import Whole, json_option
from qslurm.cli.output import print_json


@click.command()
@click.argument("file", type=click.Path(path_type=Path, readable=False))
@click.option("--shots", "-s", type=Whole(1), metavar="N", show_default="1024", help="Shots of a circuit.")
@click.option("--seed", type=Whole(0), metavar="N", help="Make the emulator repeat itself.")
@click.option(
    "--set",
    "variables",
    metavar="NAME=VALUE",
    multiple=True,
    help="A value for {{ NAME }} in a circuit, and for qi.parameters; may be repeated.",
)
@json_option
def run(
    *, file: Path, shots: int | None, seed: int | None, variables: tuple[str, ...], as_json: bool
) -> None:
    """Run FILE, a circuit (.cq, .qasm) or a hybrid Python file (.py), on the QX emulator here.

    \b
    Examples:
      qslurm run bell.cq --shots 4096
      qslurm run rabi.cq --set theta=1.57
      qslurm run vqe.py --json | jq .final_result.energy
    """
    from qslurm.center.asked import variables_of
    from qslurm.runtimes.local import run_file

    # What the user's own code prints must not mix with the one document that --json promises.
    with redirect_stdout(sys.stderr) if as_json else nullcontext():
        result = run_file(file, shots=shots, seed=seed, parameters=variables_of(variables))
    if result.kind == "circuit":
        document: dict[str, object] = {"counts": result.counts, "shots": result.shots}
    else:
        document = {"final_result": result.final_result, "executions": result.executions}
    if as_json:
        print_json(document)
        return
    from qslurm.cli.results import print_results

    print_results({"kind": result.kind, **document})
