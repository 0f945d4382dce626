"""One quantum runtime of this host as a process: how it is started, and cleaned up after its end.

It has a secret and a ZeroMQ endpoint of its own, in a folder that only this user can enter. The endpoint's file
is removed once the process has joined, so that no other process can connect, and nothing is left behind.
"""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from qslurm.c2.config.dispatcher_section import BackendConfig
from qslurm.runtimes.health import Health
from qslurm.runtimes.lanes.lane_channel import LaneChannel
from qslurm.runtimes.quantum.process import RuntimeSetup
from qslurm.runtimes.quantum.process_starter import LANE_SOCKET, LOGBOOK, Started, Starter
from qslurm.system.child_process import command
from qslurm.system.event_log import EventLog

if TYPE_CHECKING:
    import zmq

log = EventLog(__name__)

ENDPOINT_LENGTH = len("/qslurm-runtime-12345678/s")
"""Bytes that a runtime's endpoint adds to the path of its folder; a Unix socket's path has at most 107."""

_LONGEST_FOLDER = 107 - ENDPOINT_LENGTH
_STDERR_TAIL = 2000


@dataclass
class Runtime:
    """One process. `address` is where its next circuit goes, None while it works or has not joined.

    It is killed at its `deadline`, for `deadline_reason`; `used` is whether it has ever had work.
    """

    number: int
    backend: str
    process: Started
    pidfd: int
    stderr: int
    secret: bytes
    endpoint: str
    folder: Path
    deadline: float
    lanes: LaneChannel
    joined_at: float = 0.0  # 0: it has not joined
    address: bytes | None = None
    deadline_reason: str = ""
    killed_because: str = ""
    used: bool = False
    health: Health = field(default_factory=Health)

    @property
    def joined(self) -> bool:
        """Whether it has ever been ready for its first circuit."""
        return self.joined_at > 0

    @property
    def stderr_tail(self) -> str:
        """The end of its standard error."""
        start = max(0, os.fstat(self.stderr).st_size - _STDERR_TAIL)
        return os.pread(self.stderr, _STDERR_TAIL, start).decode(errors="replace")


@dataclass(frozen=True)
class StartContext:
    """What all processes share: the socket that they connect to, the folder for endpoints, limits.

    `logbooks` is the prefix of logbook paths (None: they need not outlive this process). `starter` starts them
    as another user: then other users can enter the folder, but not list it.
    """

    router: zmq.Socket[bytes]
    folder: Path
    limit_s: float
    logbooks: str | None
    starter: Starter | None = None


def start(number: int, backend: BackendConfig, context: StartContext, deadline: float) -> Runtime:
    """Start a process that has to join before `deadline` (monotonic seconds). On OSError nothing is left behind."""
    with ExitStack() as undo, ExitStack() as to_close:  # undone on an error; closed here in any case
        prefix = "" if context.starter else "qslurm-runtime-"
        folder = Path(tempfile.mkdtemp(prefix=prefix, dir=context.folder))
        undo.callback(shutil.rmtree, folder, ignore_errors=True)
        endpoint = f"ipc://{folder}/s"
        context.router.bind(endpoint)
        if context.starter:  # the process's user knows the name
            folder.chmod(0o711)
            (folder / "s").chmod(0o666)
        undo.callback(_unbind, context.router, endpoint)
        secret = secrets.token_bytes(32)
        stderr = os.memfd_create(f"qslurm-runtime-{number}")
        undo.callback(os.close, stderr)
        lanes = LaneChannel(number, context.logbooks)
        undo.callback(lanes.close)
        to_close.callback(lanes.close_process_fds)
        limit_s = None if context.limit_s == float("inf") else context.limit_s
        setup_in, setup_out = os.pipe2(os.O_CLOEXEC)
        to_close.callback(os.close, setup_in)
        to_close.callback(os.close, setup_out)
        process: Started
        if context.starter is None:
            process_facts = (os.getpid(), backend, limit_s, *lanes.process_fds)
            os.write(setup_out, _setup_line(RuntimeSetup(endpoint, number, secret, *process_facts)))
            process, pidfd = _start_process(setup_in, stderr, *lanes.process_fds)
        else:
            process_facts = (context.starter.pid, backend, limit_s, LANE_SOCKET, LOGBOOK)
            os.write(setup_out, _setup_line(RuntimeSetup(endpoint, number, secret, *process_facts)))
            process, pidfd = context.starter.start(setup_in, stderr, *lanes.process_fds)
        undo.callback(process.wait)
        undo.callback(process.kill)
        undo.callback(os.close, pidfd)
        undo.pop_all()
        return Runtime(
            number=number,
            backend=backend.name,
            process=process,
            pidfd=pidfd,
            stderr=stderr,
            secret=secret,
            endpoint=endpoint,
            folder=folder,
            deadline=deadline,
            lanes=lanes,
        )


def clean_up(runtime: Runtime, router: zmq.Socket[bytes]) -> None:
    """Release all that is kept of a process that has ended, except for its logbook's file."""
    os.close(runtime.pidfd)
    os.close(runtime.stderr)
    runtime.lanes.close()
    shutil.rmtree(runtime.folder, ignore_errors=True)
    _unbind(router, runtime.endpoint)


def _unbind(router: zmq.Socket[bytes], endpoint: str) -> None:
    import zmq

    try:
        router.unbind(endpoint)
    except zmq.ZMQError as error:
        log.debug("unbind failed", why=str(error))


def temporary_folder() -> Path:
    """A folder for endpoints if none is configured; a long TMPDIR would exceed a socket path's length."""
    folder = tempfile.gettempdir()
    return Path(folder if len(os.fsencode(folder)) <= _LONGEST_FOLDER else "/tmp")  # noqa: S108 - mkdtemp within


def _setup_line(setup: RuntimeSetup) -> bytes:
    """The process's input; it fits into a pipe's buffer."""
    return msgspec.json.encode(setup) + b"\n"


def _start_process(stdin: int, stderr: int, wire: int, logbook: int) -> tuple[Started, int]:
    process = subprocess.Popen(
        command("qslurm.runtimes.quantum.process"),
        stdin=stdin,
        stdout=subprocess.DEVNULL,
        stderr=stderr,
        start_new_session=True,  # keeps a terminal's Ctrl-C away from it
        pass_fds=(wire, logbook),
    )
    try:
        return process, os.pidfd_open(process.pid)
    except BaseException:
        process.kill()
        process.wait()
        raise
