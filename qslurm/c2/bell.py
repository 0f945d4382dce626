"""How a hook tells the gate that a job starts or ends: a datagram that nobody has to read."""

from __future__ import annotations

import socket
from contextlib import suppress
from pathlib import Path

NAME = "bell.sock"


def ring(state: str) -> None:
    """Tell the gate whose folder this is to look at the jobs. If it isn't there, it finds out by itself."""
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as bell:
        bell.setblocking(False)
        bell.sendto(b"!", str(Path(state) / NAME))


def listen(state: str) -> socket.socket:
    """The gate's end: readable when somebody has rung. The folder is SlurmUser's, and so are they who may ring."""
    path = Path(state) / NAME
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
