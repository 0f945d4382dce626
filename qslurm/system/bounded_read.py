"""Reads files with limits on size and time, since a path may be a FIFO without a writer or an endless device.

Pipes of the shell (`<(command)`) are allowed.
"""

from __future__ import annotations

import os
import select
import time
from pathlib import Path

TIMEOUT_S = 10.0
"""Time-out in seconds of reading a pipe or terminal."""


def read_bounded(path: Path, limit: int, *, timeout_s: float = TIMEOUT_S) -> bytes:
    """Read at most `limit` + 1 bytes of `path`; more than `limit` means that it is larger.

    OSError if that fails, TimeoutError if the end is not reached in time.
    """
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    try:
        until = time.monotonic() + timeout_s
        pieces: list[bytes] = []
        room = limit + 1
        while room > 0:
            try:
                piece = os.read(handle, min(room, 1 << 20))
            except BlockingIOError:
                _await(handle, until)
                continue
            if not piece:
                break
            pieces.append(piece)
            room -= len(piece)
        return b"".join(pieces)
    finally:
        os.close(handle)


def _await(handle: int, until: float) -> None:
    left = until - time.monotonic()
    poll = select.poll()
    poll.register(handle, select.POLLIN)
    if left <= 0 or not poll.poll(left * 1000):
        raise TimeoutError(None, "timed out reading a pipe")
