"""The gate's heartbeat: a file in its directory with the time of its last activity, which `qslurm doctor` reads."""

from __future__ import annotations

import os
import time
from pathlib import Path

FILE = "beat"


class Heartbeat:
    """Writes the heartbeat. Times are CLOCK_BOOTTIME's, which cannot be set back."""

    def __init__(self, state: str) -> None:
        self._path = Path(state) / FILE
        self._file: int | None = None

    def write(self) -> None:
        """Write the current time; OSError if that fails. The length never changes, so it works on a full disk."""
        if self._file is None:
            self._file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW, 0o644)
        os.pwrite(self._file, f"{time.clock_gettime(time.CLOCK_BOOTTIME):020.6f}\n".encode(), 0)

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            os.close(self._file)
            self._file = None


def age_s(state: str) -> float | None:
    """Seconds since the gate's last heartbeat; None if there was none since the host booted."""
    try:
        last = float((Path(state) / FILE).read_text())
    except (FileNotFoundError, ValueError):
        return None
    age = time.clock_gettime(time.CLOCK_BOOTTIME) - last
    return age if age >= 0 else None
