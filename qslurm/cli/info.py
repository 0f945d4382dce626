"""`qslurm info`: what sinfo is for Slurm."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click

from qslurm.cli.all_platforms import query_all
from qslurm.cli.output import print_json, print_table
from qslurm.cli.shared_options import CenterFlags, center_options, json_option
from qslurm.cli.time_format import clock_time
from qslurm.errors import InvalidInputError

if TYPE_CHECKING:
    from qslurm.c1.queries.lists import Backend


@click.command()
@click.argument("names", nargs=-1, metavar="[BACKEND]...")
@json_option
@center_options
def info(names: tuple[str, ...], as_json: bool, center: CenterFlags) -> None:
    """Show C2's backends, as sinfo does: state, qubits, shots, queue and reservations.

    With several platforms configured, those of all, in the order in which `qslurm submit --backend any` considers
    them.

    \b
    Examples:
      qslurm info
      qslurm info spin2 --json
    """
    import msgspec

    from qslurm.c1.queries.lists import backends

    found = query_all(center, backends)
    rows = [(config.platform, one) for config, listed in found.answers for one in listed]
    known = list(dict.fromkeys(one.name for _, one in rows))
    if (wrong := [name for name in names if name not in known]) and not found.failures:
        raise InvalidInputError(f"Unknown backend {wrong[0]!r}.", hint=f"C2's backends: {', '.join(known)}.")
    rows = [(platform, one) for platform, one in rows if not names or one.name in names]
    if as_json:
        documents = [{**msgspec.to_builtins(one), "platform": platform} for platform, one in rows]
        print_json(found.document(backends=documents))
    else:
        header = ("STATE", "PARTITION", "QUBITS", "SHOTS", "RUNNING", "WAITING", "RESERVED", "REASON")
        print_table(
            ("BACKEND", *(("PLATFORM",) if found.several else ()), *header),
            [
                (
                    *(one.name, *((platform,) if found.several else ())),
                    *(f"{one.state} {_since(one)}".strip(), f"{one.partition} {_opened(one)}"),
                    *(one.qubits, f"{one.default_shots} to {one.max_shots}", one.running, one.waiting),
                    *(_next_window(one), one.reason),
                )
                for platform, one in rows
            ],
        )
    found.finish()


def _since(backend: Backend) -> str:
    return f"since {clock_time(backend.since)}" if backend.since else ""


def _opened(backend: Backend) -> str:
    words = {"UP": "enabled", "DOWN": "held", "DRAIN": "closed", "INACTIVE": "closed", "UNKNOWN": ""}
    return words.get(backend.partition_state, backend.partition_state)


def _next_window(backend: Backend) -> str:
    """The current or next reservation, as text."""
    for window in backend.reserved:
        if window["ends"] > time.time():
            whose = "for you" if window["yours"] else "for others"
            return f"{clock_time(window['begins'])} to {clock_time(window['ends'])} {whose}"
    return ""
