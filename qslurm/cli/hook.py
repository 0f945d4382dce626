"""What Slurm on C2 calls: the prolog and epilog plugin, and the job step. Everything here starts on every job."""

from __future__ import annotations

from pathlib import Path

import click

from qslurm.cli.options import c2_config_option


@click.group()
def hook() -> None:
    """C2's prolog and epilog plugin, called by slurmctld with the job in its environment."""


@hook.command()
@c2_config_option
def prolog(config_file: Path | None) -> int:
    """Ask the dispatcher to admit the job that is about to start (PrologSlurmctld)."""
    from qslurm.c2 import hooks
    from qslurm.c2.config import load_c2_config

    return hooks.prolog(load_c2_config(config_file))


@hook.command()
@c2_config_option
def epilog(config_file: Path | None) -> int:
    """Tell the dispatcher that a job has ended, however it ended (EpilogSlurmctld)."""
    from qslurm.c2 import hooks
    from qslurm.c2.config import load_c2_config

    return hooks.epilog(load_c2_config(config_file))


@click.command()
@c2_config_option
@click.argument("script", type=click.Path(path_type=Path, dir_okay=False))
def step(config_file: Path | None, script: Path) -> int:
    """Run a quantum job's classical part on C2, as the job's user; SCRIPT is the job's own batch script."""
    from qslurm.c2.config import load_c2_config
    from qslurm.runtimes.step import run_step

    return run_step(script, load_c2_config(config_file).dispatcher)
