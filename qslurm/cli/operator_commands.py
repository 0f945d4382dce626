"""`qslurm partition` and `qslurm backend`: commands for C2's operators."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from qslurm.cli import reservation_commands, streams
from qslurm.cli.dispatcher_calls import ask, ask_status
from qslurm.cli.output import print_json, print_table
from qslurm.cli.shared_options import c2_config_option, json_option, reason_option
from qslurm.cli.time_format import clock_time

if TYPE_CHECKING:
    from qslurm.c2.gate.partitions import PartitionRow
    from qslurm.protocol.messages import BackendStatus

partition_argument = click.argument("name", metavar="PARTITION")


@click.group()
def partition() -> None:
    """C2's quantum partitions. The state that an operator sets lasts until the next change, across restarts."""


@partition.command("status")
@c2_config_option
@json_option
def status_of_partitions(config_file: Path | None, as_json: bool) -> None:
    """Show each partition's desired state, its backend's health, and its state in Slurm.

    \b
    Example:  qslurm partition status
    """
    import msgspec

    from qslurm.c2.config.file import load_c2_config
    from qslurm.c2.gate.partitions import partition_status

    rows = partition_status(load_c2_config(config_file))
    if as_json:
        print_json({"partitions": msgspec.to_builtins(rows)})
    else:
        _print_partitions(rows)


@partition.command()
@partition_argument
@reason_option
@c2_config_option
@json_option
def enable(name: str, reason: str, config_file: Path | None, as_json: bool) -> None:
    """Start queued jobs of PARTITION whenever its backend is available.

    \b
    Example:  qslurm partition enable p_qx
    """
    _set_state(name, "enabled", reason, config_file, as_json=as_json)


@partition.command()
@partition_argument
@reason_option
@c2_config_option
@json_option
def drain(name: str, reason: str, config_file: Path | None, as_json: bool) -> None:
    """Start no more jobs in PARTITION; running jobs finish, and new ones are accepted (Slurm's DOWN).

    \b
    Example:  qslurm partition drain p_qx --reason "calibration until noon"
    """
    _set_state(name, "drained", reason, config_file, as_json=as_json)


@partition.command()
@partition_argument
@reason_option
@c2_config_option
@json_option
def close(name: str, reason: str, config_file: Path | None, as_json: bool) -> None:
    """Refuse new jobs in PARTITION; queued ones still run. `enable` or `drain` opens it again.

    \b
    Example:  qslurm partition close p_spin2 --reason "decommissioned"
    """
    _set_state(name, "closed", reason, config_file, as_json=as_json)


@click.group()
def backend() -> None:
    """C2's quantum backends."""


@backend.command("list")
@c2_config_option
@json_option
def list_backends(config_file: Path | None, as_json: bool) -> None:
    """List the backends and their states.

    \b
    Example:  qslurm backend list
    """
    import msgspec

    backends = ask_status(config_file).backends
    if as_json:
        print_json({"backends": msgspec.to_builtins(backends)})
    else:
        print_backends(backends)


@backend.command()
@click.argument("name", metavar="BACKEND")
@reason_option
@c2_config_option
def offline(name: str, reason: str, config_file: Path | None) -> None:
    """Take BACKEND out of service: its partition is held, and jobs stay queued.

    \b
    Example:  qslurm backend offline qx --reason "fridge warm-up"
    """
    _set_backend(name, online=False, reason=reason, config_file=config_file)


@backend.command()
@click.argument("name", metavar="BACKEND")
@c2_config_option
def online(name: str, config_file: Path | None) -> None:
    """Put BACKEND back into service.

    \b
    Example:  qslurm backend online qx
    """
    _set_backend(name, online=True, reason="", config_file=config_file)


for command in (
    reservation_commands.reserve,
    reservation_commands.release,
    reservation_commands.list_reservations,
):
    backend.add_command(command)


def print_backends(backends: Sequence[BackendStatus]) -> None:
    """The backends as a table."""
    print_table(
        ("BACKEND", "STATE", "SINCE", "QUBITS", "MAX_SHOTS", "RUNTIMES", "QUEUED", "EXECUTING", "REASON"),
        [
            (b.name, b.state, clock_time(b.since), b.qubits, b.max_shots, b.runtimes, b.queued, b.executing, b.reason)
            for b in backends
        ],
    )  # fmt: skip


def _set_backend(name: str, *, online: bool, reason: str, config_file: Path | None) -> None:
    from qslurm.protocol.messages import SetBackend

    ask(SetBackend(backend=name, online=online, reason=reason), config_file)
    streams.write(f"{name} is back in service" if online else f"{name} is out of service")


def _set_state(
    name: str,
    state: Literal["enabled", "drained", "closed"],
    reason: str,
    config_file: Path | None,
    *,
    as_json: bool,
) -> None:
    import msgspec

    from qslurm.c2.config.file import load_c2_config
    from qslurm.c2.gate.partitions import set_desired_state

    row = set_desired_state(load_c2_config(config_file), name, state, why=reason)
    if as_json:
        print_json(msgspec.to_builtins(row))
    else:
        _print_partitions([row])


def _print_partitions(rows: Sequence[PartitionRow]) -> None:
    print_table(
        ("PARTITION", "DESIRED", "BACKEND", "SLURM", "RUNNING", "QUEUED", "BY", "SINCE", "REASON"),
        [
            (
                r.partition, r.wish or "-", f"{r.backend} {r.backend_state}", r.slurm_state,
                r.running, r.queued, r.by or "-", clock_time(r.since) or "-", r.reason,
            )
            for r in rows
        ],
    )  # fmt: skip
