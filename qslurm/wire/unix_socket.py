"""Connecting to Unix sockets, and listening at them. Anybody of the host may connect; the kernel says who does."""

from __future__ import annotations

import math
import os
import socket
import stat
import struct
import time
from pathlib import Path

from qslurm.errors import ConfigError, UnreachableError

_AGAIN_S = 0.02  # between two looks whether somebody listens


def connected_unix(path: str, timeout_s: float) -> socket.socket:
    """A connection to a Unix socket, for which it waits its turn: with Python's time limit connect(2) would not wait
    when many come at once, and fail with EAGAIN (unix(7)). OSError if it can't be had.
    """
    link = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        link.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", math.ceil(timeout_s), 0))
        link.connect(path)
    except BaseException:
        link.close()
        raise
    link.settimeout(timeout_s)
    return link


def awaited_unix(path: str, until: float) -> socket.socket:
    """A connection to a Unix socket, at which somebody may listen only now; OSError if nobody does by then (monotonic
    seconds).
    """
    while True:
        link = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            link.settimeout(max(0.001, until - time.monotonic()))
            link.connect(path)
        except OSError:
            link.close()
            if time.monotonic() + _AGAIN_S >= until:
                raise
            time.sleep(_AGAIN_S)
        else:
            return link


def listen_unix(path: Path, *, service: str, setting: str, backlog: int = 64) -> socket.socket:
    """A listening socket, in the place of one whose process was killed: of this `service`, where `setting` says.

    ConfigError if the path is something else, UnreachableError if it can't be had or another process listens there.
    """
    if path.exists() and not stat.S_ISSOCK(path.lstat().st_mode):
        raise ConfigError(f"{path} exists and is not a socket.", hint=f"Check {setting}.")
    if _is_listened_at(path):
        raise UnreachableError(f"Another {service} is listening on {path}.")
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        path.unlink(missing_ok=True)
        listener.bind(str(path))
        path.chmod(0o666)  # who may do what is decided by who they are
        listener.listen(backlog)
    except OSError as error:
        listener.close()
        raise UnreachableError(
            f"The {service} cannot listen on {path}: {error.strerror}.",
            hint=f"Check {setting}, and that its folder exists and belongs to uid {os.getuid()}.",
        ) from error
    return listener


def _is_listened_at(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(str(path))
        except BlockingIOError:
            return True  # by somebody whose backlog is full
        except OSError:
            return False
        return True
