"""Connecting to a Unix socket to which anybody of the host may connect."""

from __future__ import annotations

import math
import socket
import struct


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
