"""A block of free ports for one instance, and whether something listens on one."""

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
    """Remembered ports, with those that have got a name since: the next ones of the same block."""
    if not known:
        return {}
    first = min(known.values())
    return {name: known.get(name, first + offset) for offset, name in enumerate(NAMES)}


def listening(port: int) -> bool:
    """Does something listen on this TCP port? Asked of /proc: to connect would be an error in its log."""
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
    """Does a process listen on this Unix socket? Read from /proc, as above."""
    lines = (line.split(maxsplit=7) for line in Path("/proc/net/unix").read_text().splitlines()[1:])
    return any(fields[7:] == [str(path)] and int(fields[3], 16) & _ACCEPTS for fields in lines)


def free(ports: dict[str, int]) -> bool:
    """Can all these ports be bound now?

    Where something listens on one of them none is tried: they are a testbed's that is up, and whose daemon may be just
    about to start again.
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
    """The current ports if they are free, else a new block; nobody else gets it while the context lasts.

    The reservation is an abstract Unix socket: all testbeds of the host see it, and it goes with the process.
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
    raise TestbedError(f"No {len(NAMES)} free ports in a row between {LOWEST} and {HIGHEST} on this host.")
