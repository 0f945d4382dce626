"""Connecting to Unix sockets, and listening on them."""

from __future__ import annotations

import math
import os
import socket
import stat
import struct
import time
from pathlib import Path

from qslurm.errors import ConfigError, UnreachableError

_RETRY_S = 0.02


def connect_unix_socket(path: str, timeout_s: float) -> socket.socket:
    """A connection to a Unix socket; OSError if it fails or takes longer than `timeout_s`.

    SO_SNDTIMEO instead of `settimeout`, because a non-blocking connect(2) fails with EAGAIN when the backlog is full
    (unix(7)).
    """
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.setsockopt(
            socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", math.ceil(timeout_s), 0)
        )
        connection.connect(path)
    except BaseException:
        connection.close()
        raise
    connection.settimeout(timeout_s)
    return connection


def connect_unix_socket_by(path: str, until: float) -> socket.socket:
    """A connection to a Unix socket that may not exist yet; OSError if there is none by `until` (monotonic seconds)."""
    while True:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.settimeout(max(0.001, until - time.monotonic()))
            connection.connect(path)
        except OSError:
            connection.close()
            if time.monotonic() + _RETRY_S >= until:
                raise
            time.sleep(_RETRY_S)
        else:
            return connection


def listen_unix(path: Path, *, service: str, setting: str, backlog: int = 64) -> socket.socket:
    """A listening socket, which any user may connect to. Replaces the socket of a process that was killed.

    ConfigError if the path is something else, UnreachableError if it can't be made or another process listens there.
    `service` and `setting` are for these messages.
    """
    if path.exists() and not stat.S_ISSOCK(path.lstat().st_mode):
        raise ConfigError(f"{path} exists and is not a socket.", hint=f"Check {setting}.")
    if _has_listener(path):
        raise UnreachableError(f"Another {service} is listening on {path}.")
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        path.unlink(missing_ok=True)
        listener.bind(str(path))
        path.chmod(0o666)  # SO_PEERCRED or a credential decides what a user may do
        listener.listen(backlog)
    except OSError as error:
        listener.close()
        raise UnreachableError(
            f"The {service} cannot listen on {path}: {error.strerror}.",
            hint=f"Check {setting}, and that its folder exists and belongs to uid {os.getuid()}.",
        ) from error
    return listener


def _has_listener(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(str(path))
        except BlockingIOError:
            return True  # its backlog is full
        except OSError:
            return False
        return True
