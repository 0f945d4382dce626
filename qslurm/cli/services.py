"""C2's services: the dispatcher, the gate, the job manager. All stay in the foreground; systemd keeps them."""

from __future__ import annotations

from pathlib import Path

import click

from qslurm.cli.operator import ask_status, print_backends
from qslurm.cli.options import c2_config_option, json_option
from qslurm.cli.output import print_facts, print_json, print_table


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
@c2_config_option
@json_option
def dispatcher_status(config_file: Path | None, as_json: bool) -> None:
    """Show the backends and the jobs the dispatcher has open.

    \b
    Example:  qslurm dispatcher status
    """
    import msgspec

    from qslurm.cli.times import ago
    from qslurm.cli.times import clock_time as clock

    status = ask_status(config_file)
    if as_json:
        print_json(msgspec.to_builtins(status))
        return
    state = "ready" if status.ready else f"not ready: {status.reason}"
    print_facts(
        {"dispatcher": f"{state}, version {status.version}, process {status.pid}, up {ago(status.started)}"}
    )
    click.echo()
    print_backends(status.backends)
    click.echo()
    print_table(
        ("JOBID", "CENTER", "BACKEND", "KIND", "STATE", "SINCE", "EXECUTIONS"),
        [
            (t.job_id, t.center, t.backend, t.kind, t.state, clock(t.since), t.executions)
            for t in status.tasks
        ],
    )


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
