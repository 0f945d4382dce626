"""C2's prolog and epilog hooks and the job step. Slurm starts these for every job, so they import little."""

from __future__ import annotations

from pathlib import Path

import click

from qslurm.cli.shared_options import c2_config_option


@click.group()
def hook() -> None:
    """C2's prolog and epilog hooks, called by slurmctld and slurmd with the job in the environment."""


@hook.command()
@c2_config_option
def prolog(config_file: Path | None) -> int:
    """Ask the dispatcher to admit the job that is about to start (PrologSlurmctld)."""
    from qslurm.c2.config.file import load_c2_config
    from qslurm.c2.hooks import prolog_epilog

    return prolog_epilog.prolog(load_c2_config(config_file))


@hook.command()
@c2_config_option
def epilog(config_file: Path | None) -> int:
    """Tell the dispatcher that a job has ended (EpilogSlurmctld)."""
    from qslurm.c2.config.file import load_c2_config
    from qslurm.c2.hooks import prolog_epilog

    return prolog_epilog.epilog(load_c2_config(config_file))


@hook.command()
@c2_config_option
def begin(config_file: Path | None) -> int:
    """Ask the dispatcher whether the job's script may run; it may run once (TaskProlog)."""
    from qslurm.c2.config.file import load_c2_config
    from qslurm.c2.hooks.task_prolog import may_begin

    return may_begin(load_c2_config(config_file).dispatcher)


@hook.command()
@c2_config_option
def end(config_file: Path | None) -> int:
    """Tell the dispatcher that the job's script has ended (TaskEpilog)."""
    from qslurm.c2.config.file import load_c2_config
    from qslurm.c2.hooks.task_prolog import has_ended

    return has_ended(load_c2_config(config_file).dispatcher)


@click.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@c2_config_option
@click.option("--script", "is_script", is_flag=True, hidden=True, help="Run the script, with its arguments.")
@click.option("--failed", metavar="REASON", hidden=True, help="Report why the step was ended.")
@click.argument("script", type=click.Path(path_type=Path, dir_okay=False))
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="")
def step(
    config_file: Path | None, script: Path, failed: str | None, arguments: tuple[str, ...], *, is_script: bool
) -> int:
    """Run a quantum job's classical part on C2, as the job's user; SCRIPT is the job's own batch script."""
    from qslurm.c2.config.file import load_c2_config

    config = load_c2_config(config_file)
    if failed is not None:
        from qslurm.runtimes.classical.step import fail_step

        return fail_step(script, config.dispatcher, failed)
    settings = config.runtimes
    if not (settings.confines_scripts if is_script else settings.confine == "always"):
        from qslurm.runtimes.classical import unconfined

        return unconfined.run(script, config, arguments if is_script else None)
    from qslurm.runtimes.classical import cold

    return cold.run(script, config, arguments if is_script else None)
