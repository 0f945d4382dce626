"""C2's services: the dispatcher, the gate, the job manager. All stay in the foreground; systemd keeps them."""

from __future__ import annotations

from pathlib import Path

import click

from qslurm.cli.operator import ask_status
from qslurm.cli.options import c2_config_option, json_option
from qslurm.cli.output import print_json


@click.group()
def dispatcher() -> None:
    """C2's task manager: it admits jobs, and moves circuits and counts between them and the backends."""


@dispatcher.command("serve")
@c2_config_option
def serve_dispatcher(config_file: Path | None) -> None:
    """Run the dispatcher until SIGTERM.

    \b
    Example:  qslurm dispatcher serve --config /etc/qslurm/c2.toml
    """
    from qslurm.c2.config import load_c2_config
    from qslurm.dispatcher.service import serve

    config = load_c2_config(config_file)
    serve(config.dispatcher, config.backend)


@dispatcher.command("status")
@click.option(
    "--queue",
    type=click.IntRange(0, 500),
    default=20,
    show_default=True,
    metavar="N",
    help="List so many of what waits at each backend.",
)
@c2_config_option
@json_option
def dispatcher_status(queue: int, config_file: Path | None, as_json: bool) -> None:
    """Show the backends, who holds them, the jobs that are open, and what waits, where and why.

    Root and the platform's own users see every job, a center's user sees its own.

    \b
    Example:  qslurm dispatcher status --queue 100
    """
    import msgspec

    from qslurm.c2.config import load_c2_config
    from qslurm.cli.seeing import print_status
    from qslurm.runtimes.warm_status import ask_service

    status = ask_status(config_file, jobs=True, queue=queue)
    warm = ask_service(load_c2_config(config_file).runtimes.socket)
    if as_json:
        print_json(msgspec.to_builtins(status) | {"runtimes": warm})
    else:
        print_status(status, warm)


@click.group()
def gate() -> None:
    """C2's gate: it opens and closes partitions as operators wish and backends allow."""


@gate.command("serve")
@c2_config_option
def serve_gate(config_file: Path | None) -> None:
    """Run the gate until SIGTERM, as SlurmUser.

    \b
    Example:  qslurm gate serve --config /etc/qslurm/c2.toml
    """
    from qslurm.c2.config import load_c2_config
    from qslurm.c2.gate import serve

    serve(load_c2_config(config_file))


@click.group()
def runtimes() -> None:
    """C2's classical runtimes, kept warm on each node where jobs run."""


@runtimes.command("serve")
@c2_config_option
def serve_runtimes(config_file: Path | None) -> None:
    """Keep runtimes warm for jobs until SIGTERM, as root.

    \b
    Example:  qslurm runtimes serve --config /etc/qslurm/c2.toml
    """
    from qslurm.c2.config import load_c2_config
    from qslurm.runtimes.warm import serve

    serve(load_c2_config(config_file))


@click.group()
def jobmanager() -> None:
    """C2's HTTP service: it gives each center its own jobs' results and logs."""


@jobmanager.command("serve")
@c2_config_option
def serve_jobmanager(config_file: Path | None) -> None:
    """Run the job manager until SIGTERM.

    \b
    Example:  qslurm jobmanager serve --config /etc/qslurm/c2.toml
    """
    from qslurm.c2.config import load_c2_config
    from qslurm.jobmanager.service import serve

    serve(load_c2_config(config_file))
