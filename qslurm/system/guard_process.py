"""A guard process that cleans up after a process that is killed.

The guarded process writes what to undo as a note to a pipe. When the pipe closes, which it does however the process
ends, the guard acts on the last note.
"""

from __future__ import annotations

import logging
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import msgspec

from qslurm.system.child_process import command

log = logging.getLogger(__name__)

_END_S = 2.0

_at_work: list[subprocess.Popen[bytes]] = []
"""Released guards that are still running; kept, since Python warns about dropped processes."""


class Guard:
    """The guard, as seen by the guarded process.

    `module` has its `main`, which calls `listen` first; `charge` is the data that the guard needs to act.
    """

    def __init__(self, module: str, charge: msgspec.Struct) -> None:
        self._module = module
        self._charge = charge
        self._note = ""
        self._process = self._start()

    @property
    def pid(self) -> int:
        """The guard's process id."""
        return self._process.pid

    def note(self, note: str) -> None:
        """Set what to undo, in one line; "" for nothing."""
        self._note = note
        try:
            self._tell(note.encode())
        except BrokenPipeError:
            self._replace()

    def ensure_running(self) -> None:
        """Restart it if it has exited, for example out of memory."""
        if self._process.poll() is not None:
            self._replace()

    def _replace(self) -> None:
        status = self._process.wait()
        log.warning("the guard exited with status %d; starting another", status)
        if self._process.stdin is not None:
            with suppress(BrokenPipeError):  # the next guard gets the note
                self._process.stdin.close()
        self._process = self._start()
        self._tell(self._note.encode())

    def close(self) -> None:
        """Release it; with a note it acts on that first."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            self._process.wait(_END_S)
        except subprocess.TimeoutExpired:
            log.warning("the guard is still running")
            _at_work.append(self._process)

    def _start(self) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            command(self._module), stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, start_new_session=True
        )
        self._process = process
        self._tell(msgspec.json.encode(self._charge))
        return process

    def _tell(self, line: bytes) -> None:
        if self._process.stdin is None or self._process.stdin.closed:
            raise BrokenPipeError("the guard no longer reads")
        self._process.stdin.write(line + b"\n")
        self._process.stdin.flush()


def listen() -> tuple[bytes, str]:
    """The guard's main loop: waits for the guarded process to end, and undoes what it left."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # it ends with the guarded process
    try:
        Path("/proc/self/oom_score_adj").write_text("0")  # the guarded process is to be killed first
    except PermissionError as error:
        log.info("the kernel's OOM killer may still choose the guard first: %s", error)
    charge = sys.stdin.buffer.readline()
    note = ""
    for line in sys.stdin.buffer:
        if line.endswith(b"\n"):
            note = line.decode().strip()
    return charge, note
