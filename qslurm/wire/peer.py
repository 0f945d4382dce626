"""The process at the other end of a Unix socket, as the kernel knows it."""

from __future__ import annotations

import os
import select
import socket
import struct

from qslurm.system.job_of_process import job_of

_CREDENTIALS = struct.Struct("3i")  # struct ucred: pid, uid, gid (unix(7), SO_PEERCRED)
_SO_PEERPIDFD = 77  # Linux 6.5


def peer_uid(connection: socket.socket) -> int:
    """The uid of the process that made a connection over a Unix socket."""
    return _credentials(connection)[1]


class Peer:
    """The process that made a connection over a Unix socket. It may end at any moment, and its number be another's."""

    def __init__(self, connection: socket.socket) -> None:
        self.pid, self.uid, _ = _credentials(connection)
        self._job: int | None = None
        self._pidfd = _pin(connection, self.pid)

    def job(self) -> int | None:
        """Its Slurm job; None if it is in none, or had ended before this was asked for the first time."""
        if self._pidfd is not None:
            job = job_of(self.pid)
            self._job = job if self.is_alive() else None
            self.close()
        return self._job

    def is_alive(self) -> bool:
        """Whether it has not ended, as far as it is still watched."""
        if self._pidfd is None:
            return False
        watch = select.poll()
        watch.register(self._pidfd, select.POLLIN)
        return not watch.poll(0)

    def close(self) -> None:
        """Watch it no more; what is known of it stays."""
        if self._pidfd is not None:
            os.close(self._pidfd)
            self._pidfd = None


def _credentials(connection: socket.socket) -> tuple[int, int, int]:
    found = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    pid, uid, gid = _CREDENTIALS.unpack(found)
    return pid, uid, gid


def _pin(connection: socket.socket, pid: int) -> int | None:
    try:
        return connection.getsockopt(socket.SOL_SOCKET, _SO_PEERPIDFD)
    except OSError:  # an older kernel, or it has ended
        pass
    try:
        return os.pidfd_open(pid) if pid > 0 else None
    except OSError:
        return None
