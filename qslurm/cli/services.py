"""C2's services: dispatcher, gate, job manager and runtimes. They run in the foreground, under systemd."""

from __future__ import annotations

from pathlib import Path

import click

from qslurm.cli import streams
from qslurm.cli.dispatcher_calls import ask_status
from qslurm.cli.output import print_json
from qslurm.cli.shared_options import c2_config_option, json_option


@click.group()
def dispatcher() -> None:
    """C2's task manager: admits jobs, and passes their circuits to the backends."""


@dispatcher.command("serve")
@c2_config_option
def serve_dispatcher(config_file: Path | None) -> None:
    """Run the dispatcher until SIGTERM.

    \b
    Example:  qslurm dispatcher serve --config /etc/qslurm/c2.toml
    """
    from qslurm.c2.config.file import load_c2_config
    from qslurm.c2.dispatcher.dispatcher_service import serve

    config = load_c2_config(config_file)
    serve(config.dispatcher, config.backend, remote=config.remote, sessions=config.sessions)


@dispatcher.command("status")
@click.option(
    "--queue",
    type=click.IntRange(0, 500),
    default=20,
    show_default=True,
    metavar="N",
    help="Number of queued circuits to list for each backend.",
)
@c2_config_option
@json_option
def dispatcher_status(queue: int, config_file: Path | None, as_json: bool) -> None:
    """Show the backends, their holders, open jobs, and queued circuits with their reasons.

    Root and the platform's users see all jobs, a center's user its own.

    \b
    Example:  qslurm dispatcher status --queue 100
    """
    import msgspec

    from qslurm.c2.config.file import load_c2_config
    from qslurm.cli.dispatcher_status import print_status
    from qslurm.runtimes.classical.warm.warm_status import query_warm_status

    status = ask_status(config_file, jobs=True, queue=queue)
    warm = query_warm_status(load_c2_config(config_file).runtimes.socket)
    if as_json:
        fields = msgspec.structs.asdict(status)  # without the tag that it has as a message
        print_json(msgspec.to_builtins(fields | {"runtimes": warm}))
    else:
        print_status(status, warm)


@click.group()
def gate() -> None:
    """C2's gate: opens and closes partitions by operators' settings and backend health."""


@gate.command("serve")
@c2_config_option
def serve_gate(config_file: Path | None) -> None:
    """Run the gate until SIGTERM, as SlurmUser.

    \b
    Example:  qslurm gate serve --config /etc/qslurm/c2.toml
    """
    from qslurm.c2.config.file import load_c2_config
    from qslurm.c2.gate.gate_service import serve

    serve(load_c2_config(config_file))


@click.group()
def runtimes() -> None:
    """C2's runtimes: warm classical ones on compute nodes, quantum ones on hosts other than the dispatcher's."""


@runtimes.command("serve")
@c2_config_option
def serve_runtimes(config_file: Path | None) -> None:
    """Keep classical runtimes warm for jobs, as root, until SIGTERM.

    \b
    Example:  qslurm runtimes serve --config /etc/qslurm/c2.toml
    """
    from qslurm.c2.config.file import load_c2_config
    from qslurm.runtimes.classical.warm.warm_service import serve

    serve(load_c2_config(config_file))


@runtimes.command("join")
@click.option(
    "--connect", required=True, metavar="ENDPOINT", help="Address of the dispatcher: tcp://HOST:PORT."
)
@click.option("--backend", required=True, help="Backend to execute circuits for.")
@click.option(
    "--key", type=click.Path(path_type=Path), required=True, help="File with this host's secret key."
)
@click.option(
    "--dispatcher-key",
    type=click.Path(path_type=Path),
    required=True,
    help="File with the dispatcher's public key.",
)
@click.option(
    "--workers", type=click.IntRange(min=1), default=1, help="Maximum number of concurrent circuits."
)
def join_runtimes(connect: str, backend: str, key: Path, dispatcher_key: Path, workers: int) -> None:
    """Execute circuits for a dispatcher on another host, until SIGTERM.

    \b
    Example:  qslurm runtimes join --connect tcp://c2-head:4210 --backend spin2
                  --key /etc/qslurm/lab-1.key --dispatcher-key /etc/qslurm/dispatcher.pub
    """
    from qslurm.runtimes.quantum.join_service import JoinSettings, join

    join(JoinSettings(connect, backend, key, dispatcher_key, workers))


@runtimes.command("keygen")
@click.argument("file", type=click.Path(path_type=Path))
def make_runtime_keys(file: Path) -> None:
    """Create a key pair: the secret key in FILE (mode 0600), the public key, for the other host, beside it.

    \b
    Example:  qslurm runtimes keygen /etc/qslurm/lab-1.key
    """
    from qslurm.protocol.curve.key_files import PUBLIC_SUFFIX, make_keys

    pair = make_keys(file)
    streams.write(f"{pair.public.decode()}  ({file.with_suffix(PUBLIC_SUFFIX)})")


@click.group()
def jobmanager() -> None:
    """C2's HTTP service: serves each center the results and logs of its own jobs."""


@jobmanager.command("serve")
@c2_config_option
def serve_jobmanager(config_file: Path | None) -> None:
    """Run the job manager until SIGTERM.

    \b
    Example:  qslurm jobmanager serve --config /etc/qslurm/c2.toml
    """
    from qslurm.c2.config.file import load_c2_config
    from qslurm.c2.jobmanager.http_service import serve

    serve(load_c2_config(config_file))
