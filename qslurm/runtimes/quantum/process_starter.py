"""Starts quantum runtimes as a user of their own, who can read neither the dispatcher's store nor its keys.

The dispatcher starts with the required capabilities, forks this process, and drops them before it reads
anything. From then on it can only request one command, run as one user, with four descriptors. The started
processes end with this process, and this process with the dispatcher.
"""

from __future__ import annotations

import fcntl
import os
import pwd
import signal
import socket
import subprocess
from collections.abc import Callable
from contextlib import suppress
from typing import NoReturn, Protocol

from qslurm.errors import ConfigError, QslurmError
from qslurm.system import kernel
from qslurm.system.child_process import command, end_with

_LIMIT = 64
_MAX_DESCRIPTORS = 4
LANE_SOCKET, LOGBOOK = 3, 4
"""The numbers of these two descriptors in the started process."""


ENDPOINT_FOLDER = "endpoints"
"""The folder of the runtimes' endpoints, beside the dispatcher's socket: other users can enter it, but not list it."""


class Started(Protocol):
    """A started process, with the methods of subprocess.Popen."""

    def kill(self) -> None:
        """Kill it, if it has not ended."""

    def wait(self) -> int:
        """Its exit status, or minus the signal that ended it."""
        ...


class Starter:
    """The dispatcher's end: sends a request and waits for the reply."""

    def __init__(self, link: socket.socket, pid: int) -> None:
        self.pid = pid
        self._link = link

    def start(self, stdin: int, stderr: int, wire: int, logbook: int) -> tuple[Started, int]:
        """Start a quantum runtime with these descriptors: the process, and a pidfd. OSError if that fails."""
        word, number, pidfds = self._request(b"start", [stdin, stderr, wire, logbook])
        if word != b"started":
            raise OSError(number, os.strerror(number))
        return _Child(self, number), pidfds[0]

    def send_command(self, word: bytes, pid: int) -> int:
        """Have a process killed, or waited for; returns its status."""
        return self._request(b"%b %d" % (word, pid), [])[1]

    def close(self) -> None:
        """End this process, and all that it has started."""
        self._link.close()
        with suppress(ChildProcessError):
            os.waitpid(self.pid, 0)

    def _request(self, request: bytes, descriptors: list[int]) -> tuple[bytes, int, list[int]]:
        try:
            socket.send_fds(self._link, [request], descriptors)
            reply, pidfds, _, _ = socket.recv_fds(self._link, _LIMIT, 1)
        except ConnectionError:
            reply = b""
        if not reply:  # its children have ended with it, and this process cannot start others
            raise QslurmError(
                "The process that starts quantum runtimes has ended.", hint="Restart the dispatcher."
            )
        word, _, number = reply.partition(b" ")
        return word, int(number), pidfds


class _Child:
    """A process of the starter's; see Started."""

    def __init__(self, starter: Starter, pid: int) -> None:
        self._starter = starter
        self._pid = pid
        self._status: int | None = None

    def kill(self) -> None:
        if self._status is None:
            self._starter.send_command(b"kill", self._pid)

    def wait(self) -> int:
        if self._status is None:
            self._status = self._starter.send_command(b"wait", self._pid)
        return self._status


def fork_starter(user: str) -> Starter:
    """Fork the process that starts commands as this user, and drop this process's capabilities.

    ConfigError for an unknown user, or without the capabilities.
    """
    try:
        account = pwd.getpwnam(user)
    except KeyError as error:
        raise ConfigError(f"[dispatcher] runtime_user: unknown user {user!r}.") from error
    needed = (kernel.CAP_SETUID, kernel.CAP_SETGID, kernel.CAP_KILL)
    if not kernel.has(*needed):
        raise ConfigError(
            f"[dispatcher] runtime_user: permission denied to switch to {user!r}.",
            hint="Its systemd unit must have AmbientCapabilities=CAP_SETUID CAP_SETGID CAP_KILL.",
        )
    dispatcher_end, starter_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        dispatcher_end.close()
        _serve(starter_end, parent, lambda: _switch_user(account.pw_uid, account.pw_gid))
    starter_end.close()
    kernel.give_up_all()
    return Starter(dispatcher_end, pid)


def _switch_user(uid: int, gid: int) -> None:
    os.setgroups([])
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
    kernel.give_up_all()


def _serve(link: socket.socket, parent: int, switch_user: Callable[[], None]) -> NoReturn:
    """Serve requests until the dispatcher closes the connection."""
    link = socket.socket(fileno=fcntl.fcntl(link.detach(), fcntl.F_DUPFD_CLOEXEC, 64))
    os.closerange(LANE_SOCKET, link.fileno())
    for number in (LANE_SOCKET, LOGBOOK):  # reserve these numbers
        os.dup2(0, number, inheritable=False)
    for number in (
        signal.SIGTERM,
        signal.SIGINT,
    ):  # the dispatcher handles them; this process ends with it
        signal.signal(number, signal.SIG_IGN)
    end_with(parent)
    children: dict[int, subprocess.Popen[bytes]] = {}
    while True:
        request, descriptors, _, _ = socket.recv_fds(link, _LIMIT, _MAX_DESCRIPTORS)
        if not request:
            os._exit(0)
        try:
            if request == b"start":
                child = _start(descriptors, switch_user)
                children[child.pid] = child
                pidfd = os.pidfd_open(child.pid)
                socket.send_fds(link, [b"started %d" % child.pid], [pidfd])
                os.close(pidfd)
                continue
            word, _, pid = request.partition(b" ")
            if word == b"kill":
                children[int(pid)].kill()
                link.send(b"killed 0")
            else:
                link.send(b"ended %d" % children[int(pid)].wait())
                del children[int(pid)]
        except (OSError, subprocess.SubprocessError) as error:
            link.send(b"failed %d" % (getattr(error, "errno", 0) or 0))
        finally:
            for descriptor in descriptors:
                os.close(descriptor)


def _start(descriptors: list[int], switch_user: Callable[[], None]) -> subprocess.Popen[bytes]:
    stdin, stderr, wire, logbook = descriptors

    def prepare() -> None:
        os.dup2(wire, LANE_SOCKET)
        os.dup2(logbook, LOGBOOK)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        switch_user()

    return subprocess.Popen(
        command("qslurm.runtimes.quantum.process"),
        stdin=stdin,
        stdout=subprocess.DEVNULL,
        stderr=stderr,
        start_new_session=True,
        pass_fds=(LANE_SOCKET, LOGBOOK),
        preexec_fn=prepare,  # noqa: PLW1509 -- there is one thread
        cwd="/",
    )
