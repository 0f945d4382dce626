"""`qslurm run`: execute a file on this machine, without Slurm."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path

import click

from qslurm.cli.output import print_json
from qslurm.cli.shared_options import Whole, json_option
from qslurm.system.encoding_errors import without_surrogates


@click.command()
@click.argument("file", type=click.Path(path_type=Path, readable=False))
@click.option(
    "--shots", "-s", type=Whole(1), metavar="N", show_default="1024", help="Number of shots of a circuit."
)
@click.option("--seed", type=Whole(0), metavar="N", help="Seed of the emulator, for reproducible results.")
@click.option(
    "--set",
    "variables",
    metavar="NAME=VALUE",
    multiple=True,
    help="Value of {{ NAME }} in a circuit, or of qi.parameters; may be repeated.",
)
@json_option
def run(
    *, file: Path, shots: int | None, seed: int | None, variables: tuple[str, ...], as_json: bool
) -> None:
    """Run FILE, a circuit (.cq, .qasm) or a hybrid Python file (.py), on this machine with the QX emulator.

    \b
    Examples:
      qslurm run bell.cq --shots 4096
      qslurm run rabi.cq --set theta=1.57
      qslurm run vqe.py --json | jq .final_result.energy
    """
    from qslurm.c1.submission.job_reader import variables_of

    execute = partial(_document, file, shots, seed, variables_of(variables))
    if file.suffix == ".py":
        from qslurm.runtimes.hybrid.isolated import run_isolated

        # What the user's own code prints must not mix with the one document that --json promises.
        document = run_isolated(execute, without_surrogates(file.name), print_to_stderr=as_json)
    else:
        document = execute()
    if as_json:
        print_json(document)
        return
    from qslurm.cli.results import print_results

    print_results({"kind": "circuit" if "counts" in document else "hybrid", **document})


def _document(
    file: Path, shots: int | None, seed: int | None, parameters: Mapping[str, str]
) -> dict[str, object]:
    from qslurm.local.run_file import run_file

    result = run_file(file, shots=shots, seed=seed, parameters=parameters)
    if result.kind == "circuit":
        return {"counts": result.counts, "shots": result.shots}
    remarks = list(result.remarks)
    return {"final_result": result.final_result, "executions": result.executions, "remarks": remarks}
