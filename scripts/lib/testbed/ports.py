"""A block of free ports for an instance, and sockets in use."""

from __future__ import annotations

import random
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from testbed.errors import TestbedError

NAMES = (
    "c1_slurmctld",
    "c1_slurmd",
    "c2_slurmctld",
    "c2_slurmd",
    "c2_slurmdbd",
    "c2_slurmrestd",
    "database",
    "jobmanager",
    "metrics",
    "agent",
    "sessions",
    "tls",
)
"""In the order of their numbers; a new one comes last."""
LOWEST, HIGHEST = 20000, 32000
"""Below the kernel's ephemeral ports (32768 and up), so that no outgoing connection takes one of ours."""

BLOCK = 20
_LISTEN = "0A"
"""State of a listening socket in /proc/net/tcp (proc(5))."""
_ACCEPTS = 0x10000
"""Flag of a listening socket in /proc/net/unix: the kernel's __SO_ACCEPTCON."""


def complete(known: Mapping[str, int]) -> dict[str, int]:
    """Known ports with those that were added to NAMES since, from the same block."""
    if not known:
        return {}
    first = min(known.values())
    return {name: known.get(name, first + offset) for offset, name in enumerate(NAMES)}


def listening(port: int) -> bool:
    """Whether a process listens on this TCP port, by /proc: a connection would be logged as an error."""
    wanted = f":{port:04X}"
    for table in (Path("/proc/net/tcp"), Path("/proc/net/tcp6")):
        if not table.exists():
            continue
        for line in table.read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == _LISTEN and fields[1].endswith(wanted):
                return True
    return False


def listening_at(path: Path) -> bool:
    """Whether a process listens on this Unix socket, by /proc as well."""
    lines = (line.split(maxsplit=7) for line in Path("/proc/net/unix").read_text().splitlines()[1:])
    return any(fields[7:] == [str(path)] and int(fields[3], 16) & _ACCEPTS for fields in lines)


def free(ports: dict[str, int]) -> bool:
    """Whether all these ports can be bound.

    If any is listened on, none is tried: the ports belong to a running testbed, and binding one could fail a daemon of
    it that is just starting.
    """
    return not any(listening(port) for port in ports.values()) and all(
        _bindable(port) for port in ports.values()
    )


def _bindable(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
        except OSError:
            return False
        return True


@contextmanager
def reserved(current: dict[str, int]) -> Iterator[dict[str, int]]:
    """The current ports if they are free, else a new block, reserved while the context lasts.

    The reservation is an abstract Unix socket: all testbeds of the host see it, and the kernel removes it with the
    process.
    """
    starts = random.sample(range(LOWEST, HIGHEST, BLOCK), 200)
    if set(current) == set(NAMES):
        starts.insert(0, min(current.values()))
    for start in starts:
        block = {name: start + offset for offset, name in enumerate(NAMES)}
        with socket.socket(socket.AF_UNIX) as claim:
            try:
                claim.bind(f"\0qslurm-testbed-ports-{start}")
            except OSError:
                continue
            if free(block):
                yield block
                return
    raise TestbedError(f"No {len(NAMES)} consecutive free ports between {LOWEST} and {HIGHEST}.")
