"""How a hook tells the gate that a job starts or ends: datagrams that nobody has to read."""

from __future__ import annotations

import socket
from contextlib import suppress
from pathlib import Path

CHANGED = "bell.sock"
"""Rings when a job starts or ends: whoever follows the jobs looks."""

ENDED = "ended.sock"
"""Rings when a job ends: there is room for another."""


def ring(state: str, name: str = CHANGED) -> None:
    """Tell the gate whose folder this is. If it isn't there, it finds out by itself."""
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as bell:
        bell.setblocking(False)
        bell.sendto(b"!", str(Path(state) / name))


def listen(state: str, name: str = CHANGED) -> socket.socket:
    """The gate's end: readable when somebody has rung. The folder is SlurmUser's, and so are they who may ring."""
    path = Path(state) / name
    path.unlink(missing_ok=True)
    bell = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        bell.bind(str(path))
        path.chmod(0o600)
        bell.setblocking(False)
    except OSError:
        bell.close()
        raise
    return bell


def silence(bell: socket.socket) -> None:
    """Take in all that has rung, so that it is readable for the next ring only."""
    with suppress(BlockingIOError):
        while True:
            bell.recv(16)
