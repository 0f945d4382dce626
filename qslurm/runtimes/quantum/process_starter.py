"""Starts quantum runtimes as a user of their own, who can read neither the dispatcher's store nor its keys.

The dispatcher begins with the capabilities that this needs, forks this process, and gives them up before it reads
anything. What it can ask for from then on is one command, as one user: it says with which descriptors. The commands
end with this process, and this process with the dispatcher.
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
_DESCRIPTORS = 4
WIRE, LOGBOOK = 3, 4
"""What the started process finds these two descriptors as."""


UNLISTED = "endpoints"
"""The folder in which their endpoints are, beside the dispatcher's socket: others can enter it, and not list it."""


class Started(Protocol):
    """A process that has been started, as subprocess.Popen has it."""

    def kill(self) -> None:
        """End it at once, if it has not ended."""

    def wait(self) -> int:
        """Its exit status, or minus the signal that has ended it."""
        ...


class Starter:
    """The dispatcher's end: asks, and has the answer at once."""

    def __init__(self, link: socket.socket, pid: int) -> None:
        self.pid = pid
        self._link = link

    def start(self, stdin: int, stderr: int, wire: int, logbook: int) -> tuple[Started, int]:
        """Start a quantum runtime with these descriptors: the process, and a pidfd. OSError if that can't be."""
        word, number, pidfds = self._ask(b"start", [stdin, stderr, wire, logbook])
        if word != b"started":
            raise OSError(number, os.strerror(number))
        return _Child(self, number), pidfds[0]

    def order(self, word: bytes, pid: int) -> int:
        """Have a process killed, or waited for: its status."""
        return self._ask(b"%b %d" % (word, pid), [])[1]

    def close(self) -> None:
        """End this process, and all that it has started."""
        self._link.close()
        with suppress(ChildProcessError):
            os.waitpid(self.pid, 0)

    def _ask(self, question: bytes, descriptors: list[int]) -> tuple[bytes, int, list[int]]:
        try:
            socket.send_fds(self._link, [question], descriptors)
            answer, pidfds, _, _ = socket.recv_fds(self._link, _LIMIT, 1)
        except ConnectionError:
            answer = b""
        if not answer:  # all that it has started has ended with it, and nobody here may start anything
            raise QslurmError(
                "The process that starts quantum runtimes has ended.", hint="Restart the dispatcher."
            )
        word, _, number = answer.partition(b" ")
        return word, int(number), pidfds


class _Child:
    """See Started."""

    def __init__(self, starter: Starter, pid: int) -> None:
        self._starter = starter
        self._pid = pid
        self._status: int | None = None

    def kill(self) -> None:
        if self._status is None:
            self._starter.order(b"kill", self._pid)

    def wait(self) -> int:
        if self._status is None:
            self._status = self._starter.order(b"wait", self._pid)
        return self._status


def begin(user: str) -> Starter:
    """Fork the process that starts commands as this user, and give its capabilities up here.

    ConfigError if there is no such user, or this process must not become another one.
    """
    try:
        entry = pwd.getpwnam(user)
    except KeyError as error:
        raise ConfigError(f"[dispatcher] runtime_user: unknown user {user!r}.") from error
    needed = (kernel.CAP_SETUID, kernel.CAP_SETGID, kernel.CAP_KILL)
    if not kernel.has(*needed):
        raise ConfigError(
            f"[dispatcher] runtime_user: permission denied to switch to {user!r}.",
            hint="Its systemd unit must have AmbientCapabilities=CAP_SETUID CAP_SETGID CAP_KILL.",
        )
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        ours.close()
        _serve(theirs, parent, lambda: _become(entry.pw_uid, entry.pw_gid))
    theirs.close()
    kernel.give_up_all()
    return Starter(ours, pid)


def _become(uid: int, gid: int) -> None:
    os.setgroups([])
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
    kernel.give_up_all()


def _serve(link: socket.socket, parent: int, become: Callable[[], None]) -> NoReturn:
    """Until the dispatcher hangs up."""
    link = socket.socket(fileno=fcntl.fcntl(link.detach(), fcntl.F_DUPFD_CLOEXEC, 64))
    os.closerange(WIRE, link.fileno())
    for place in (WIRE, LOGBOOK):  # nothing else may have these numbers
        os.dup2(0, place, inheritable=False)
    for number in (
        signal.SIGTERM,
        signal.SIGINT,
    ):  # they are for the dispatcher, who ends us when it has ended
        signal.signal(number, signal.SIG_IGN)
    end_with(parent)
    children: dict[int, subprocess.Popen[bytes]] = {}
    while True:
        question, descriptors, _, _ = socket.recv_fds(link, _LIMIT, _DESCRIPTORS)
        if not question:
            os._exit(0)
        try:
            if question == b"start":
                child = _start(descriptors, become)
                children[child.pid] = child
                pidfd = os.pidfd_open(child.pid)
                socket.send_fds(link, [b"started %d" % child.pid], [pidfd])
                os.close(pidfd)
                continue
            word, _, pid = question.partition(b" ")
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


def _start(descriptors: list[int], become: Callable[[], None]) -> subprocess.Popen[bytes]:
    stdin, stderr, wire, logbook = descriptors

    def prepare() -> None:
        os.dup2(wire, WIRE)
        os.dup2(logbook, LOGBOOK)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        become()

    return subprocess.Popen(
        command("qslurm.runtimes.quantum.process"),
        stdin=stdin,
        stdout=subprocess.DEVNULL,
        stderr=stderr,
        start_new_session=True,
        pass_fds=(WIRE, LOGBOOK),
        preexec_fn=prepare,  # noqa: PLW1509 -- there is one thread
        cwd="/",
    )
