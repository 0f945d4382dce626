"""Shares a session with other processes of this host over a Unix socket.

The socket is in a directory that only this user can enter, and the kernel identifies clients. The session's secret and
the connection to C2 stay in this process, which numbers the circuits of all clients. A client that lost its connection
(this process was stopped for a while) repeats its requests by its own numbers, and gets the outcomes that there are.
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

_MOST_CLIENTS = 1024  # at a time
MOST_OUTCOMES = 2 * OPEN_IN_SESSION  # outcomes kept per client, twice its pending requests
_SEND_S = 30.0  # a client that reads nothing for so long is disconnected


class ClientOutcomes:
    """The outcomes of one client process, kept across reconnections: repeated requests are not executed twice."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._outcomes: dict[int, Future[Outcome]] = {}

    def ask(self, seq: int, submit: Callable[[], Future[Outcome]]) -> Future[Outcome]:
        """The outcome of its circuit with this number."""
        with self._lock:
            if seq not in self._outcomes:
                self._outcomes[seq] = submit()
                done = [one for one, outcome in self._outcomes.items() if outcome.done()]
                for one in done[: max(0, len(self._outcomes) - MOST_OUTCOMES)]:
                    del self._outcomes[one]
            return self._outcomes[seq]


class SharedSession:
    """Serves a session to client processes. `final_result` is the result that one of them set (JSON), if any, with its
    `remark`.
    """

    def __init__(self, client: SessionClient, folder: Path) -> None:
        self._client = client
        self.path = folder / "session"
        self.final_result: str | None = None
        self.remark = ""
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(self.path))
        self._listener.listen(64)
        self._room = threading.BoundedSemaphore(_MOST_CLIENTS)
        self._clients: OrderedDict[bytes, ClientOutcomes] = OrderedDict()  # by the names that they chose
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._accept, name="qslurm-shared", daemon=True)
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
                target=self._serve, args=(link,), name="qslurm-shared-client", daemon=True
            ).start()

    def _serve(self, link: socket.socket) -> None:
        lock = threading.Lock()
        outcomes: ClientOutcomes | None = None
        with BlockingConnection(link, REQUEST_LIMIT) as connection:
            try:
                while True:
                    try:
                        number, body = connection.receive(time.monotonic() + HEARTBEAT_S)
                    except TimeoutError:
                        _send(connection, lock, NO_REQUEST, b"")
                        continue
                    if outcomes is None:
                        outcomes = self._outcomes_of(hello_decoder.decode(body).secret)
                        _send(connection, lock, NO_REQUEST, encode(self._client.attached))
                    else:
                        self._take(outcomes, partial(_answer, connection, lock, number), decode_request(body))
            except (OSError, EOFError, ValueError, QslurmError):  # msgspec.DecodeError is a ValueError
                return  # a client that reconnects repeats its requests
            finally:
                self._room.release()

    def _outcomes_of(self, name: bytes) -> ClientOutcomes:
        with self._lock:
            outcomes = self._clients.setdefault(name, ClientOutcomes())
            self._clients.move_to_end(name)
            if len(self._clients) > _MOST_CLIENTS:
                self._clients.popitem(last=False)
            return outcomes

    def _take(self, outcomes: ClientOutcomes, answer: partial[None], message: Message) -> None:
        match message:
            case Execute():
                try:
                    outcome = outcomes.ask(
                        message.seq,
                        lambda: self._client.submit(message.circuit, message.shots, message.raw_data),
                    )
                except QslurmError as error:
                    answer(Refused(kind=error.kind, reason=str(error)))
                    return
                outcome.add_done_callback(lambda future: answer(_executed(message.seq, future)))
            case Conclude():
                if message.final_result:
                    self.final_result, self.remark = message.final_result, message.remark
                answer(Done())
            case _:
                raise InvalidInputError("Not a session request.")


@contextmanager
def shared(client: SessionClient) -> Iterator[SharedSession]:
    """Share a session with this user's processes; `path` is the value of VARIABLE."""
    folder = tempfile.mkdtemp(prefix="qslurm-", dir=_short())
    try:
        session = SharedSession(client, Path(folder))
        try:
            yield session
        finally:
            session.close()
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
        return  # it has disconnected


def _send(connection: BlockingConnection, lock: threading.Lock, number: int, body: bytes) -> None:
    with lock:
        connection.send(body, time.monotonic() + _SEND_S, number=number)
