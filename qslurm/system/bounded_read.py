"""Reads files with limits on size and time.

Where a file should be there may be a FIFO that nobody writes to, a device without end, or a pipe of the shell
(`<(command)`), which is fine.
"""

from __future__ import annotations

import os
import select
import time
from pathlib import Path

PATIENCE_S = 10.0
"""Time-out in seconds of reading a pipe or terminal."""


def read_bounded(path: Path, limit: int, *, patience_s: float = PATIENCE_S) -> bytes:
    """Read at most `limit` + 1 bytes of `path`; more than `limit` means that it is larger.

    OSError as the system gives it; TimeoutError (one of them) for what has not come to its end in time.
    """
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    try:
        until = time.monotonic() + patience_s
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
