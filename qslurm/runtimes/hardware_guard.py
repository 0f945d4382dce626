"""Gives the hardware's lock back when the process that held it is killed.

A hardware server that was initialised and never terminated stays executing, and never calibrates. The process
that executes circuits may be killed at any moment, with -9; so it has one of these beside it, tells it on a pipe
of each session it begins and ends, and when the pipe closes with a session open, this one terminates it.
"""

from __future__ import annotations

import logging
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import msgspec

from qslurm.errors import QslurmError
from qslurm.runtimes.process import command

log = logging.getLogger(__name__)

_END_S = 2.0


class Charge(msgspec.Struct, frozen=True):
    """The first line the guard is told: where the server is, and how long to wait for its answer."""

    endpoint: str
    patience_s: float


class Guard:
    """The guard process, from the side of the one that is guarded."""

    def __init__(self, charge: Charge) -> None:
        self._charge = charge
        self._session = ""
        self._process = self._start()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def note(self, session: str) -> None:
        """Tell it of a session that is about to begin; an empty one: there is none any more."""
        self._session = session
        try:
            self._tell(session.encode())
        except BrokenPipeError:
            self._replace()

    def look(self) -> None:
        """Replace it if it has ended: memory may run out for guards, too."""
        if self._process.poll() is not None:
            self._replace()

    def _replace(self) -> None:
        status = self._process.wait()
        log.warning("the guard has ended with status %d; another takes its place", status)
        if self._process.stdin is not None:
            with suppress(BrokenPipeError):  # what it was not told is told to the next one
                self._process.stdin.close()
        self._process = self._start()
        self._tell(self._session.encode())

    def close(self) -> None:
        """Let it go; with a session noted it terminates that first."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            self._process.wait(_END_S)
        except subprocess.TimeoutExpired:
            log.warning("the guard still waits for the hardware's answer")

    def _start(self) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            command(__name__), stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, start_new_session=True
        )
        self._process = process
        self._tell(msgspec.json.encode(self._charge))
        return process

    def _tell(self, line: bytes) -> None:
        if self._process.stdin is None or self._process.stdin.closed:
            raise BrokenPipeError("the guard does not listen any more")
        self._process.stdin.write(line + b"\n")
        self._process.stdin.flush()


def main() -> None:
    """What the guard does."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # it ends with the one it guards, and not before
    try:
        Path("/proc/self/oom_score_adj").write_text("0")  # the one it guards is to go first
    except PermissionError as error:
        log.info("the guard stays among those that the kernel kills first: %s", error)
    charge = msgspec.json.decode(sys.stdin.buffer.readline(), type=Charge)
    session = ""
    for line in sys.stdin.buffer:
        if line.endswith(b"\n"):
            session = line.decode().strip()
    if session:
        terminate(charge, session)


def terminate(charge: Charge, session: str) -> None:
    """Terminate a session whose holder is gone. Asked once: a server that is busy answers when it is done."""
    import zmq

    from qslurm.runtimes.hardware_link import HardwareLink

    with zmq.Context() as context:
        link = HardwareLink(context, charge.endpoint)
        try:
            link.ask(object, session, "terminate", timeout_s=charge.patience_s)
        except QslurmError as error:
            log.warning("session %s could not be terminated: %s", session, error)
        finally:
            link.close()
