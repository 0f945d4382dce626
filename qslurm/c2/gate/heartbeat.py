"""When the gate has last been at work: a file in its folder that it writes anew, for who asks whether it is alive."""

from __future__ import annotations

import os
import time
from pathlib import Path

FILE = "beat"


class Heartbeat:
    """The gate's end. The time is CLOCK_BOOTTIME's, the kernel's since its start: nobody can put that back."""

    def __init__(self, state: str) -> None:
        self._path = Path(state) / FILE
        self._file: int | None = None

    def __call__(self) -> None:
        """Say that it is alive; OSError if that can't be written. A full disk takes it: it is always as long."""
        if self._file is None:
            self._file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW, 0o644)
        os.pwrite(self._file, f"{time.clock_gettime(time.CLOCK_BOOTTIME):020.6f}\n".encode(), 0)

    def close(self) -> None:
        """Say no more."""
        if self._file is not None:
            os.close(self._file)
            self._file = None


def age_s(state: str) -> float | None:
    """Seconds since the gate's last beat; None if there was none since the host started."""
    try:
        beat = float((Path(state) / FILE).read_text())
    except (FileNotFoundError, ValueError):
        return None
    age = time.clock_gettime(time.CLOCK_BOOTTIME) - beat
    return age if age >= 0 else None
