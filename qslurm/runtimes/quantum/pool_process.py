"""One quantum runtime of this host, as a process: how it is started, setup_in what to do, and cleared away.

It has a ZeroMQ endpoint of its own, in a folder that only this user can enter, and a secret. Once it has
joined, the endpoint's file is removed: nobody can come after it, and nothing is left behind whatever happens.
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
from qslurm.runtimes.quantum.process_starter import LOGBOOK, WIRE, Started, Starter
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

    `late` is what it is ended for at its `deadline`; `used` is whether it has ever been given work.
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
    late: str = ""
    killed_because: str = ""
    used: bool = False
    health: Health = field(default_factory=Health)

    @property
    def joined(self) -> bool:
        """Whether it has ever been ready for its first circuit."""
        return self.joined_at > 0

    @property
    def last_words(self) -> str:
        """What it said last on its standard error."""
        start = max(0, os.fstat(self.stderr).st_size - _STDERR_TAIL)
        return os.pread(self.stderr, _STDERR_TAIL, start).decode(errors="replace")


@dataclass(frozen=True)
class Place:
    """Where processes are started: the socket that they connect to, the folder for endpoints, and what holds for all.

    `logbooks` is the beginning of the logbooks' paths (None: they need not outlive this process). `starter` starts them
    as a user of their own: then the folder is one that others can enter and can't list.
    """

    router: zmq.Socket[bytes]
    folder: Path
    limit_s: float
    logbooks: str | None
    starter: Starter | None = None


def start(number: int, backend: BackendConfig, place: Place, deadline: float) -> Runtime:
    """Start a process that has to join by then (monotonic seconds). OSError, and nothing is left, if that can't be."""
    with ExitStack() as undo, ExitStack() as to_close:  # undone on an error; closed here in any case
        prefix = "" if place.starter else "qslurm-runtime-"
        folder = Path(tempfile.mkdtemp(prefix=prefix, dir=place.folder))
        undo.callback(shutil.rmtree, folder, ignore_errors=True)
        endpoint = f"ipc://{folder}/s"
        place.router.bind(endpoint)
        if place.starter:  # another user has to come in, who knows the name
            folder.chmod(0o711)
            (folder / "s").chmod(0o666)
        undo.callback(_unbind, place.router, endpoint)
        secret = secrets.token_bytes(32)
        stderr = os.memfd_create(f"qslurm-runtime-{number}")
        undo.callback(os.close, stderr)
        lanes = LaneChannel(number, place.logbooks)
        undo.callback(lanes.close)
        to_close.callback(lanes.started)
        limit_s = None if place.limit_s == float("inf") else place.limit_s
        setup_in, setup_out = os.pipe2(os.O_CLOEXEC)
        to_close.callback(os.close, setup_in)
        to_close.callback(os.close, setup_out)
        process: Started
        if place.starter is None:
            own = (os.getpid(), backend, limit_s, *lanes.process_fds)
            os.write(setup_out, _line(RuntimeSetup(endpoint, number, secret, *own)))
            process, pidfd = _start_as_ourselves(setup_in, stderr, *lanes.process_fds)
        else:
            own = (place.starter.pid, backend, limit_s, WIRE, LOGBOOK)
            os.write(setup_out, _line(RuntimeSetup(endpoint, number, secret, *own)))
            process, pidfd = place.starter.start(setup_in, stderr, *lanes.process_fds)
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


def clear_away(runtime: Runtime, router: zmq.Socket[bytes]) -> None:
    """A process has ended: keep nothing of it but its logbook's file."""
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
    """Where endpoints can be made if no folder is set aside for them; a long TMPDIR has no room for them."""
    folder = tempfile.gettempdir()
    return Path(folder if len(os.fsencode(folder)) <= _LONGEST_FOLDER else "/tmp")  # noqa: S108 - mkdtemp within


def _line(setup: RuntimeSetup) -> bytes:
    """What a process is setup_in on its standard input, a pipe that this has room in."""
    return msgspec.json.encode(setup) + b"\n"


def _start_as_ourselves(stdin: int, stderr: int, wire: int, logbook: int) -> tuple[Started, int]:
    process = subprocess.Popen(
        command("qslurm.runtimes.quantum.process"),
        stdin=stdin,
        stdout=subprocess.DEVNULL,
        stderr=stderr,
        start_new_session=True,  # Ctrl-C on a terminal is not for it
        pass_fds=(wire, logbook),
    )
    try:
        return process, os.pidfd_open(process.pid)
    except BaseException:
        process.kill()
        process.wait()
        raise
