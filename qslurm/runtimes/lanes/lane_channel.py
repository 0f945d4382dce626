"""What the dispatcher has of a quantum runtime for its lanes: its logbook, and the socket that hands lanes over."""

from __future__ import annotations

import os
import socket
from contextlib import ExitStack
from pathlib import Path

from qslurm.runtimes.lanes.logbook import SUFFIX, Logbook, memory_logbook, open_logbook
from qslurm.system.event_log import EventLog

log = EventLog(__name__)

IN_USE_S = 1.0
"""A lane counts as in use for so long after an execution."""


class LaneChannel:
    """Made before the process is started. `process_fds` are the descriptors that it needs, of its socket and logbook.

    `logbooks` is the beginning of logbooks' paths; with None they need not outlive the dispatcher. OSError if
    it can't be made.
    """

    def __init__(self, number: int, logbooks: str | None) -> None:
        with ExitStack() as made:
            self._socket, wire = socket.socketpair(
                socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC
            )
            made.callback(self._socket.close)
            made.callback(wire.close)
            self._socket.setblocking(False)
            self._path, descriptor = _new_logbook(number, logbooks)
            made.callback(os.close, descriptor)
            self.logbook = Logbook(descriptor)
            made.pop_all()
        self.may_be_lent = logbooks is None or self._path is not None
        """Whether what is executed by lane is safe from the end of the dispatcher, where it must be."""
        self._wire = wire
        self.process_fds = (wire.fileno(), descriptor)

    def started(self) -> None:
        """The process has its descriptors, or will never need them."""
        self._wire.close()
        os.close(self.process_fds[1])

    def send_lanes(self, descriptors: list[int]) -> None:
        """Give the process lanes; OSError if it takes none."""
        socket.send_fds(self._socket, [b"L"], descriptors)

    @property
    def in_use(self) -> bool:
        """Whether something is executed by lane, or was a moment ago."""
        return self.logbook.idle_s() < IN_USE_S

    def close(self) -> None:
        """The process has ended; the logbook's file stays."""
        self._socket.close()
        self.logbook.close()

    def discard(self) -> None:
        """What the logbook says is stored: its file is not needed any more."""
        if self._path is not None:
            self._path.unlink(missing_ok=True)


def _new_logbook(number: int, logbooks: str | None) -> tuple[Path | None, int]:
    """A new process's logbook: its path, if it has one, and its descriptor."""
    if logbooks is None:
        return None, memory_logbook()
    path = Path(f"{logbooks}{number}{SUFFIX}")
    path.unlink(missing_ok=True)
    try:
        return path, open_logbook(path)
    except OSError as error:
        log.warning(
            "cannot create a logbook; the runtime takes no leases", path=str(path), why=error.strerror
        )
        path.unlink(missing_ok=True)
        return None, memory_logbook()
