"""The dispatcher's connection to a quantum runtime for lanes: its logbook, and the socket over which lanes are
sent.
"""

from __future__ import annotations

import os
import socket
from contextlib import ExitStack
from pathlib import Path

from qslurm.runtimes.lanes.logbook import SUFFIX, Logbook, memory_logbook, open_logbook
from qslurm.system.event_log import EventLog

log = EventLog(__name__)

IN_USE_S = 1.0
"""A lane counts as in use for this long after an execution."""


class LaneChannel:
    """Made before the process starts, which needs the descriptors `process_fds` (socket and logbook).

    `logbooks` is the prefix of logbook paths; with None they need not outlive the dispatcher. Raises OSError if
    it cannot be made.
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
        """Whether executions by lane survive the end of the dispatcher, where they must."""
        self._process_socket = wire
        self.process_fds = (wire.fileno(), descriptor)

    def close_process_fds(self) -> None:
        """Close the process's descriptors here, once it has them."""
        self._process_socket.close()
        os.close(self.process_fds[1])

    def send_lanes(self, descriptors: list[int]) -> None:
        """Send lanes to the process; OSError if it does not take them."""
        socket.send_fds(self._socket, [b"L"], descriptors)

    @property
    def in_use(self) -> bool:
        """Whether something executes by lane, or did within IN_USE_S."""
        return self.logbook.idle_s() < IN_USE_S

    def close(self) -> None:
        """The process has ended; the logbook's file stays."""
        self._socket.close()
        self.logbook.close()

    def discard(self) -> None:
        """Remove the logbook's file: its executions are stored."""
        if self._path is not None:
            self._path.unlink(missing_ok=True)


def _new_logbook(number: int, logbooks: str | None) -> tuple[Path | None, int]:
    """A new logbook: its path, if it is a file, and its descriptor."""
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
