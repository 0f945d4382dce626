"""The dispatcher of `qslurm run`: for one user's one job, in a process that nobody else can reach."""

from __future__ import annotations

import importlib.util
import os
import subprocess
from typing import TYPE_CHECKING

import msgspec

from qslurm.payload.envelope import Envelope
from qslurm.runtimes.process import command

if TYPE_CHECKING:
    import socket

    from qslurm.dispatcher.messages import Admit

JOB = 1

_BACKEND = "qx"
_NEEDED = ("zmq", "qxelarator")  # those of the extra `run` that are not imported here


class Setup(msgspec.Struct, frozen=True):
    """What the process is told on its standard input; `connection` and `door` are descriptors that it has."""

    parent: int
    connection: int
    door: int
    envelope: Envelope


def start(connection: socket.socket, door: socket.socket, envelope: Envelope) -> subprocess.Popen[bytes]:
    """Start the process, which admits this job, and ends with this thread.

    It takes questions over `connection`, and hands out lanes at `door`. ModuleNotFoundError if it could not begin.
    """
    for name in _NEEDED:
        if importlib.util.find_spec(name) is None:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
    setup = Setup(os.getpid(), connection.fileno(), door.fileno(), envelope)
    process = subprocess.Popen(
        command("qslurm.runtimes.local_dispatcher"),
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C on a terminal is not for it
        pass_fds=(setup.connection, setup.door),
    )
    assert process.stdin is not None
    with process.stdin as said:
        said.write(msgspec.json.encode(setup))
    return process


def main() -> None:
    """What the process does until it is told to end."""
    import socket
    import sys

    import zmq

    from qslurm.dispatcher.config import BackendConfig
    from qslurm.dispatcher.credentials import OwnConnection
    from qslurm.dispatcher.fleet.worker import temporary_folder
    from qslurm.dispatcher.server import Limits, Server
    from qslurm.dispatcher.signals import signals_stop
    from qslurm.dispatcher.tasks import jobs
    from qslurm.dispatcher.tasks.ledger import Ledger
    from qslurm.leaving import leave
    from qslurm.runtimes.process import end_with
    from qslurm.store.store import Store

    setup = msgspec.json.decode(sys.stdin.buffer.read(), type=Setup)
    end_with(setup.parent)
    ledger = Ledger([BackendConfig(name=_BACKEND)], Store())
    jobs.admit(ledger, _job(setup.envelope), "")  # who attaches to it reads why, if that was refused
    server = Server(
        ledger,
        OwnConnection(),
        Limits(frozenset(), float("inf")),
        context=zmq.Context(),
        folder=temporary_folder(),
        read=None,
    )
    with signals_stop(server.stop, server.bell):
        server.let_in(socket.socket(fileno=setup.connection), socket.socket(fileno=setup.door))
        server.run()
    leave(0)


def _job(envelope: Envelope) -> Admit:
    from qslurm.dispatcher.messages import Admit

    return Admit(
        job_id=JOB,
        restart=0,
        user="",
        uid=os.getuid(),
        account="",
        center="",
        backend=_BACKEND,
        kind=envelope.kind,
        name=envelope.file,
        envelope=envelope,
    )
