"""Notices that some job on C2 has changed, within about half a second, at next to no cost."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import time
import tty

from qslurm.c2.slurm_commands import SlurmCommands

_UPDATE = re.compile(rb"last_update_time=(\d+)")
_COUNTED = re.compile(
    r"(?:Data since|Jobs (?:submitted|started|completed|canceled|failed):) .*", re.MULTILINE
)
_REQUESTED = re.compile(r"^\s*((?:REQUEST|MESSAGE)_\w+)\s*\(\s*\d+\)\s*count:(\d+)", re.MULTILINE)
_ONLY_ASKS = re.compile(r"INFO|PING|STATS|REGISTRATION")
"""In the names of requests that change no job."""

END_S = 5.0


class ChangeDetector:
    """One squeue that asks slurmctld every second (or `every_s`) when it has last changed a job.

    squeue writes to a terminal, because into a pipe it would write only when its buffer is full.
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


class ChangeWatcher:
    """Whether slurmctld may have changed a job since somebody has looked. Who does not know says yes."""

    LOOKS = 2
    """After a change: slurmctld says in whole seconds when it has changed a job."""

    def __init__(self, slurm: SlurmCommands, every_s: int) -> None:
        self._slurm = slurm
        self._every_s = every_s
        self._watch: ChangeDetector | None = None
        self._due = self.LOOKS

    def are_there(self) -> bool:
        """Whether it is time to look; say `seen` then."""
        try:
            if self._watch is None:
                self._watch = ChangeDetector(self._slurm, self._every_s)
            if self._watch.changed() or time.monotonic() - self._watch.heard > 3 * self._every_s:
                self._due = self.LOOKS
        except OSError:  # it has ended, or can't be begun: another is begun the next time
            self.close()
        return self._due > 0

    def seen(self) -> None:
        """Somebody has looked."""
        self._due -= 1

    def close(self) -> None:
        """Watch no more; whoever watches again can't know what has changed meanwhile."""
        self._due = self.LOOKS
        if self._watch is not None:
            self._watch.close()
            self._watch = None


def activity_of(text: str) -> tuple[tuple[str, ...], ...]:
    """What in sdiag's numbers is another when a job was submitted, cancelled or changed, has started or ended.

    Of a request that is not known it is not known either, so it counts.
    """
    requests = [found for found in _REQUESTED.findall(text) if not _ONLY_ASKS.search(found[0])]
    return (tuple(_COUNTED.findall(text)), *sorted(requests))
