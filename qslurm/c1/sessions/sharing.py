"""Shares a session with other processes of this host over a Unix socket.

The socket lies in a folder that only this user can enter, and the kernel says who comes. The session's secret and
the link to C2 stay where they are: what the others ask for is numbered here, so any number of them can ask at once.
A process whose link has broken (the one that holds the session was stopped for a while) asks again for what it has
numbered itself, and gets what that gave.
"""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from qslurm.c1.sessions.session_client import SessionClient
from qslurm.errors import InvalidInputError, QslurmError
from qslurm.protocol.dispatcher_frames import decode_request, encode
from qslurm.protocol.messages import OPEN_IN_SESSION, Conclude, Done, Execute, Executed, Message, Refused
from qslurm.protocol.session_frames import HEARTBEAT_S, REQUEST_LIMIT, hello_decoder
from qslurm.runtimes.interface import Outcome
from qslurm.wire.blocking import BlockingConnection
from qslurm.wire.frames import NO_REQUEST
from qslurm.wire.peer import peer_uid

VARIABLE = "QSLURM_SESSION"
"""Environment variable with the socket's path."""

_LINKS = 1024  # at a time
_REMEMBERED = 2 * OPEN_IN_SESSION  # answers for each process; it has half as many questions under way
_TAKE_S = 30.0  # a process that takes no answers for so long has lost its link


class _ClientProcess:
    """A client process, across reconnections; repeated requests are not executed twice."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._asked: dict[int, Future[Outcome]] = {}

    def ask(self, seq: int, submit: Callable[[], Future[Outcome]]) -> Future[Outcome]:
        """The outcome of its circuit with this number."""
        with self._lock:
            if seq not in self._asked:
                self._asked[seq] = submit()
                done = [one for one, outcome in self._asked.items() if outcome.done()]
                for one in done[: max(0, len(self._asked) - _REMEMBERED)]:
                    del self._asked[one]
            return self._asked[seq]


class SharedSession:
    """Gives a session to processes that come. `final_result` is what one of them has handed in (JSON), if any, with a
    `remark` on it.
    """

    def __init__(self, client: SessionClient, folder: Path) -> None:
        self._client = client
        self.path = folder / "session"
        self.final_result: str | None = None
        self.remark = ""
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(self.path))
        self._listener.listen(64)
        self._room = threading.BoundedSemaphore(_LINKS)
        self._visitors: OrderedDict[bytes, _ClientProcess] = OrderedDict()  # by what they call themselves
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._accept, name="qslurm-handover", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Accept no more clients; connected ones stay."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                link, _ = self._listener.accept()
            except OSError:
                return  # it was closed
            if peer_uid(link) not in {0, os.getuid()} or not self._room.acquire(blocking=False):
                link.close()
                continue
            threading.Thread(
                target=self._serve, args=(link,), name="qslurm-handover-link", daemon=True
            ).start()

    def _serve(self, link: socket.socket) -> None:
        lock = threading.Lock()
        visitor: _ClientProcess | None = None
        with BlockingConnection(link, REQUEST_LIMIT) as connection:
            try:
                while True:
                    try:
                        number, body = connection.receive(time.monotonic() + HEARTBEAT_S)
                    except TimeoutError:
                        _send(connection, lock, NO_REQUEST, b"")
                        continue
                    if visitor is None:
                        visitor = self._visitor(hello_decoder.decode(body).secret)
                        _send(connection, lock, NO_REQUEST, encode(self._client.attached))
                    else:
                        self._take(visitor, partial(_answer, connection, lock, number), decode_request(body))
            except (OSError, EOFError, ValueError, QslurmError):  # what can't be decoded is a ValueError
                return  # who comes again asks again
            finally:
                self._room.release()

    def _visitor(self, name: bytes) -> _ClientProcess:
        with self._lock:
            visitor = self._visitors.setdefault(name, _ClientProcess())
            self._visitors.move_to_end(name)
            if len(self._visitors) > _LINKS:
                self._visitors.popitem(last=False)
            return visitor

    def _take(self, visitor: _ClientProcess, answer: partial[None], message: Message) -> None:
        match message:
            case Execute():
                try:
                    asked = visitor.ask(
                        message.seq,
                        lambda: self._client.submit(message.circuit, message.shots, message.raw_data),
                    )
                except QslurmError as error:
                    answer(Refused(kind=error.kind, reason=str(error)))
                    return
                asked.add_done_callback(lambda future: answer(_executed(message.seq, future)))
            case Conclude():
                if message.final_result:
                    self.final_result, self.remark = message.final_result, message.remark
                answer(Done())
            case _:
                raise InvalidInputError("Not a session request.")


@contextmanager
def handed_over(client: SessionClient) -> Iterator[SharedSession]:
    """Share a session with this user's processes; `path` is the value of VARIABLE."""
    folder = tempfile.mkdtemp(prefix="qslurm-", dir=_short())
    try:
        handover = SharedSession(client, Path(folder))
        try:
            yield handover
        finally:
            handover.close()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _short() -> str:
    """A temporary directory whose path is short enough for a Unix socket."""
    folder = tempfile.gettempdir()
    return folder if len(os.fsencode(folder)) <= 70 else "/tmp"  # noqa: S108 - mkdtemp within


def _executed(seq: int, future: Future[Outcome]) -> Message:
    try:
        outcome = future.result()
    except QslurmError as error:
        return Refused(kind=error.kind, reason=str(error))
    return Executed(
        seq=seq,
        shots_requested=outcome.shots_requested,
        shots_done=outcome.shots_done,
        counts=outcome.counts,
        seconds=outcome.seconds,
        raw_data=outcome.raw_data,
    )


def _answer(connection: BlockingConnection, lock: threading.Lock, number: int, message: Message) -> None:
    try:
        _send(connection, lock, number, encode(message))
    except (OSError, ValueError):
        return  # it has left


def _send(connection: BlockingConnection, lock: threading.Lock, number: int, body: bytes) -> None:
    with lock:
        connection.send(body, time.monotonic() + _TAKE_S, number=number)
