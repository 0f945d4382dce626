"""How a hook notifies the gate that a job starts or ends: by datagrams that nobody has to read."""

from __future__ import annotations

import socket
from contextlib import suppress
from pathlib import Path

CHANGED = "bell.sock"
"""The socket for a job that starts or ends: the queue is read then."""

ENDED = "ended.sock"
"""The socket for a job that ends: there is room for another."""


def notify(state: str, name: str = CHANGED) -> None:
    """Notify the gate with this folder. A gate that is not running finds out by itself."""
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.setblocking(False)
        sender.sendto(b"!", str(Path(state) / name))


def listen(state: str, name: str = CHANGED) -> socket.socket:
    """The gate's end: readable after a notification. The folder is SlurmUser's, so only SlurmUser may notify."""
    path = Path(state) / name
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        listener.bind(str(path))
        path.chmod(0o600)
        listener.setblocking(False)
    except OSError:
        listener.close()
        raise
    return listener


def drain(listener: socket.socket) -> None:
    """Read all notifications, so that it is readable after the next one only."""
    with suppress(BlockingIOError):
        while True:
            listener.recv(16)
