"""Detects within about half a second, and at little cost, that slurmctld has changed a job."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import time
import tty
from collections.abc import Callable

from qslurm.c2.slurm_commands import SlurmCommands

_UPDATE = re.compile(rb"last_update_time=(\d+)")
_JOB_COUNTERS = re.compile(
    r"(?:Data since|Jobs (?:submitted|started|completed|canceled|failed):) .*", re.MULTILINE
)
_RPC_COUNTERS = re.compile(r"^\s*((?:REQUEST|MESSAGE)_\w+)\s*\(\s*\d+\)\s*count:(\d+)", re.MULTILINE)
_READ_ONLY = re.compile(r"INFO|PING|STATS|REGISTRATION")
"""In the names of requests that change no job."""

END_S = 5.0


class ChangeDetector:
    """A squeue that asks slurmctld every `every_s` seconds for the time of its last change of a job.

    squeue writes to a terminal, because it would buffer its output to a pipe.
    """

    def __init__(self, slurm: SlurmCommands, every_s: int = 1) -> None:
        ours, theirs = pty.openpty()
        try:
            tty.setraw(theirs)
            self._process: subprocess.Popen[bytes] = slurm.watch(theirs, every_s)
        except OSError:
            os.close(ours)
            raise
        finally:
            os.close(theirs)
        os.set_blocking(ours, False)
        self._terminal = ours
        self._partial_line = b""
        self._last_update = b""
        self.answered_at = time.monotonic()
        """When slurmctld last answered."""

    def fileno(self) -> int:
        """For select: readable when squeue has written something."""
        return self._terminal

    def changed(self) -> bool:
        """Read squeue's output; whether a job has changed since the last call. OSError if squeue has ended."""
        try:
            data = os.read(self._terminal, 65536)
        except BlockingIOError:
            return False
        text, _, self._partial_line = (self._partial_line + data).rpartition(b"\n")
        updates = _UPDATE.findall(text)
        if not updates:
            return False
        before, self._last_update, self.answered_at = self._last_update, updates[-1], time.monotonic()
        return before != self._last_update

    def close(self) -> None:
        """End squeue."""
        os.close(self._terminal)
        self._process.kill()
        self._process.wait(END_S)


class ChangeWatcher:
    """Tells a caller that polls whether slurmctld may have changed a job since the caller's last reading."""

    READINGS = 2
    """After each change: slurmctld gives the time of a change in whole seconds."""

    def __init__(
        self,
        slurm: SlurmCommands,
        every_s: int,
        detect: Callable[[SlurmCommands, int], ChangeDetector] = ChangeDetector,
    ) -> None:
        self._slurm = slurm
        self._every_s = every_s
        self._detect = detect
        self._detector: ChangeDetector | None = None
        self._readings_due = self.READINGS

    def has_changed(self) -> bool:
        """Whether the caller should read the queue and then call `mark_read`; also True if that is unknown."""
        try:
            if self._detector is None:
                self._detector = self._detect(self._slurm, self._every_s)
            is_silent = time.monotonic() - self._detector.answered_at > 3 * self._every_s
            if self._detector.changed() or is_silent:
                self._readings_due = self.READINGS
        except OSError:  # it has ended or cannot be started: the next call starts another one
            self.close()
        return self._readings_due > 0

    def mark_read(self) -> None:
        """The caller has read the queue."""
        self._readings_due -= 1

    def close(self) -> None:
        """Stop. The next `has_changed` is True."""
        self._readings_due = self.READINGS
        if self._detector is not None:
            self._detector.close()
            self._detector = None


def activity_of(text: str) -> tuple[tuple[str, ...], ...]:
    """The counters in sdiag's output that differ after any job was submitted, changed, started or ended.

    Requests of unknown effect are included.
    """
    requests = [found for found in _RPC_COUNTERS.findall(text) if not _READ_ONLY.search(found[0])]
    return (tuple(_JOB_COUNTERS.findall(text)), *sorted(requests))
