"""Notices that some job on C2 has changed, within about half a second, at next to no cost."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import time
import tty

from qslurm.c2.slurm import Slurm

_UPDATE = re.compile(rb"last_update_time=(\d+)")
END_S = 5.0


class Watch:
    """One squeue that asks slurmctld every second when it has last changed a job.

    squeue writes to a terminal, because into a pipe it would write only when its buffer is full.
    """

    def __init__(self, slurm: Slurm) -> None:
        ours, theirs = pty.openpty()
        try:
            tty.setraw(theirs)
            self._process: subprocess.Popen[bytes] = slurm.watch(theirs)
        except OSError:
            os.close(ours)
            raise
        finally:
            os.close(theirs)
        os.set_blocking(ours, False)
        self._terminal = ours
        self._rest = b""
        self._seen = b""
        self.heard = time.monotonic()
        """When slurmctld has last answered it."""

    def fileno(self) -> int:
        """For select: readable when it has written something."""
        return self._terminal

    def changed(self) -> bool:
        """Read what it has written; whether a job has changed since the last time. OSError when it has ended."""
        try:
            data = os.read(self._terminal, 65536)
        except BlockingIOError:
            return False
        text, _, self._rest = (self._rest + data).rpartition(b"\n")
        updates = _UPDATE.findall(text)
        if not updates:
            return False
        before, self._seen, self.heard = self._seen, updates[-1], time.monotonic()
        return before != self._seen

    def close(self) -> None:
        """End it."""
        os.close(self._terminal)
        self._process.kill()
        self._process.wait(END_S)
