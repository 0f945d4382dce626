"""The dispatcher process of `qslurm run`, for a single job of one user."""

from __future__ import annotations

import importlib.util
import os
import subprocess
from contextlib import suppress
from typing import TYPE_CHECKING

import msgspec

from qslurm.errors import QslurmError, UnreachableError
from qslurm.payload.envelope import Envelope
from qslurm.system.child_process import command, low_limits

if TYPE_CHECKING:
    import socket

    from qslurm.protocol.messages import Admit

JOB = 1

ANSWER_S = 60.0
"""Seconds without an answer before the dispatcher is killed; normally it answers within a second."""

_BACKEND = "qx"
_REQUIRED = ("zmq", "qxelarator")  # packages of the extra `run` that are not imported here
_STARTS = 3
_END_S = 10.0  # how long it may take to end
_SENTENCE_STATUS = 3  # exit status if its last line is a message for the user
_TAIL_BYTES = 4096


class LocalSetup(msgspec.Struct, frozen=True):
    """The process's input; `connection` is an inherited descriptor."""

    parent: int
    connection: int
    envelope: Envelope


class LocalDispatcher:
    """The dispatcher process, which admits one job and ends with this thread.

    It takes requests over `connection`. Raises ModuleNotFoundError if a required package is missing,
    QslurmError if the process cannot be started.
    """

    def __init__(self, connection: socket.socket, envelope: Envelope) -> None:
        for name in _REQUIRED:
            if importlib.util.find_spec(name) is None:
                raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        setup = LocalSetup(os.getpid(), connection.fileno(), envelope)
        self._failure: QslurmError | None = None
        self._stderr, theirs = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            self._process = subprocess.Popen(
                command("qslurm.local.local_dispatcher"),
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=theirs,
                start_new_session=True,  # keeps a terminal's Ctrl-C away from it
                pass_fds=(setup.connection,),
            )
        finally:
            os.close(theirs)
        assert self._process.stdin is not None
        with (
            suppress(BrokenPipeError),
            self._process.stdin as pipe,
        ):  # it has ended: `failure` says why
            pipe.write(msgspec.json.encode(setup))

    def failure(self) -> QslurmError:
        """Why it does not answer; terminates it first."""
        self._failure = self._failure or self._find_failure()
        return self._failure

    def _find_failure(self) -> QslurmError:
        try:
            status = self._process.wait(_END_S)
        except subprocess.TimeoutExpired:
            return UnreachableError(f"The local dispatcher has not answered for {ANSWER_S:g} s.")
        finally:
            self._process.kill()
            self._process.wait()
        last_line = self._last_line()
        if status == _SENTENCE_STATUS:
            return QslurmError(last_line, hint=low_limits())
        if last_line:
            return QslurmError(f"The local dispatcher failed: {last_line.rstrip('.')}.", hint=low_limits())
        how = f"signal {-status}" if status < 0 else f"status {status}"
        return UnreachableError(f"The local dispatcher exited with {how}.")

    def close(self) -> None:
        """Terminate it and its children."""
        self._process.terminate()
        try:
            self._process.wait(_END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()  # its children end with it
            self._process.wait()
        os.close(self._stderr)

    def _last_line(self) -> str:
        tail = b""
        with suppress(BlockingIOError):
            while data := os.read(self._stderr, _TAIL_BYTES):
                tail = (tail + data)[-_TAIL_BYTES:]
        return tail.decode(errors="replace").strip().rsplit("\n", 1)[-1]


def main() -> None:
    """The process's main function."""
    import sys

    from qslurm.system.fast_exit import leave

    data = sys.stdin.buffer.read()
    try:
        setup = msgspec.json.decode(data, type=LocalSetup)
    except msgspec.DecodeError:
        leave(1)  # its parent ended before it wrote everything
    try:
        _serve(setup)
    except Exception as error:  # noqa: BLE001 - the last line of defence: a sentence, not a traceback
        print(f"\n{_message_of(error)}", file=sys.stderr)
        leave(_SENTENCE_STATUS)
    leave(0)


def _message_of(error: Exception) -> str:
    if isinstance(error, QslurmError):
        return str(error)
    why = (
        error.strerror
        if isinstance(error, OSError) and error.strerror
        else f"{type(error).__name__}: {error}"
    )
    return f"The local dispatcher failed: {' '.join(str(why).split()).rstrip('.')}."


def _serve(setup: LocalSetup) -> None:
    import socket

    import zmq

    from qslurm.c2.config.dispatcher_section import BackendConfig
    from qslurm.c2.dispatcher.main_loop import Dispatcher, DispatcherLimits
    from qslurm.c2.dispatcher.tasks import hook_requests
    from qslurm.c2.dispatcher.tasks.task_registry import TaskRegistry
    from qslurm.c2.store.store import Store
    from qslurm.runtimes.quantum.pool_process import temporary_folder
    from qslurm.system.child_process import end_with
    from qslurm.system.signals import signals_stop
    from qslurm.wire.credentials import SameUser

    end_with(setup.parent)
    registry = TaskRegistry([BackendConfig(name=_BACKEND)], Store())
    hook_requests.admit(registry, _job(setup.envelope), "")  # a refusal is reported to the step that attaches
    dispatcher = Dispatcher(
        registry,
        SameUser(),
        DispatcherLimits(frozenset(), float("inf"), starts=_STARTS),
        context=zmq.Context(),
        folder=temporary_folder(),
        read=None,
    )
    with signals_stop(dispatcher.stop, dispatcher.wake_fd):
        dispatcher.add_connection(socket.socket(fileno=setup.connection))
        dispatcher.run()


def _job(envelope: Envelope) -> Admit:
    from qslurm.protocol.messages import Admit

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
