"""Notifies the gate by datagrams that a job starts or ends. Sending never blocks, whether or not the gate runs."""

from __future__ import annotations

import socket
from contextlib import suppress
from pathlib import Path

CHANGED = "bell.sock"
"""The socket for jobs that start or end: the gate reads the queue."""

ENDED = "ended.sock"
"""The socket for jobs that end: slurmctld can schedule another."""


def notify(state: str, name: str = CHANGED) -> None:
    """Notify the gate whose directory is `state`. A gate that is not running finds the change later."""
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.setblocking(False)
        sender.sendto(b"!", str(Path(state) / name))


def listen(state: str, name: str = CHANGED) -> socket.socket:
    """The gate's socket, readable after a notification. Only SlurmUser, who owns the directory, may notify."""
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
    """Read all pending notifications."""
    with suppress(BlockingIOError):
        while True:
            listener.recv(16)
