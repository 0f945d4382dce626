"""The process at the other end of a Unix socket, as the kernel reports it."""

from __future__ import annotations

import os
import select
import socket
import struct

from qslurm.system.job_of_process import job_of

_CREDENTIALS = struct.Struct("3i")  # struct ucred: pid, uid, gid (unix(7), SO_PEERCRED)
_SO_PEERPIDFD = 77  # Linux 6.5


def peer_uid(connection: socket.socket) -> int:
    """The uid of the process at the other end of a Unix socket."""
    return _credentials(connection)[1]


class Peer:
    """The process that connected to a Unix socket. A pidfd guards against its pid being reused after it has ended."""

    def __init__(self, connection: socket.socket) -> None:
        self.pid, self.uid, _ = _credentials(connection)
        self._job: int | None = None
        self._pidfd = _pidfd(connection, self.pid)

    def job(self) -> int | None:
        """Its Slurm job; None if it is in none, or had ended before the first call."""
        if self._pidfd is not None:
            job = job_of(self.pid)
            self._job = job if self.is_alive() else None
            self.close()
        return self._job

    def is_alive(self) -> bool:
        """Whether it has not ended; False after `close`."""
        if self._pidfd is None:
            return False
        poll = select.poll()
        poll.register(self._pidfd, select.POLLIN)
        return not poll.poll(0)

    def close(self) -> None:
        """Close the pidfd. Its uid and job stay known."""
        if self._pidfd is not None:
            os.close(self._pidfd)
            self._pidfd = None


def _credentials(connection: socket.socket) -> tuple[int, int, int]:
    data = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    pid, uid, gid = _CREDENTIALS.unpack(data)
    return pid, uid, gid


def _pidfd(connection: socket.socket, pid: int) -> int | None:
    try:
        return connection.getsockopt(socket.SOL_SOCKET, _SO_PEERPIDFD)
    except OSError:  # an older kernel, or the process has ended
        pass
    try:
        return os.pidfd_open(pid) if pid > 0 else None
    except OSError:
        return None
