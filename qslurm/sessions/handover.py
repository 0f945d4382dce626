"""A session for other processes of this host: they speak to the one that holds it, over a Unix socket.

The socket lies in a folder that only this user can enter, and the kernel says who comes. The session's secret and
the link to C2 stay where they are: what the others ask for is numbered here, so any number of them can ask at once.
"""

from __future__ import annotations

import os
import select
import shutil
import socket
import struct
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from qslurm.dispatcher.messages import Conclude, Done, Execute, Executed, Message, Refused
from qslurm.dispatcher.wire import decode_request, encode
from qslurm.errors import InvalidInputError, QslurmError
from qslurm.runtimes.interface import Outcome
from qslurm.sessions.client import SessionClient
from qslurm.sessions.wire import BEAT_S, NO_QUESTION, QUESTION_LIMIT, frame, frames

VARIABLE = "QSLURM_SESSION"
"""Names the socket in the environment of a session's processes."""

_LINKS = 1024  # at a time
_READ = 256 * 1024
_TAKE_S = 30.0  # a process that takes no answers for so long has lost its link


class Handover:
    """Gives a session to processes that come. `final_result` is what one of them has handed in (JSON), if any."""

    def __init__(self, client: SessionClient, folder: Path) -> None:
        self._client = client
        self.path = folder / "session"
        self.final_result: str | None = None
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(self.path))
        self._listener.listen(64)
        self._room = threading.BoundedSemaphore(_LINKS)
        self._thread = threading.Thread(target=self._accept, name="qslurm-handover", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Take nobody more; those who are there go when they like."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                link, _ = self._listener.accept()
            except OSError:
                return  # it was closed
            _, uid, _ = struct.unpack("3i", link.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
            if uid not in {0, os.getuid()} or not self._room.acquire(blocking=False):
                link.close()
                continue
            link.settimeout(_TAKE_S)
            threading.Thread(
                target=self._serve, args=(link,), name="qslurm-handover-link", daemon=True
            ).start()

    def _serve(self, link: socket.socket) -> None:
        lock, data, known = threading.Lock(), bytearray(), False
        with link:
            try:
                while True:
                    if not select.select([link], [], [], BEAT_S)[0]:
                        _send(link, lock, NO_QUESTION, b"")
                        continue
                    piece = link.recv(_READ)
                    if not piece:
                        return
                    data += piece
                    for number, body in frames(data, QUESTION_LIMIT):
                        if not known:
                            known = True
                            _send(link, lock, NO_QUESTION, encode(self._client.attached))
                        else:
                            self._take(partial(_answer, link, lock, number), decode_request(body))
            except (OSError, ValueError, QslurmError):
                return  # who comes again asks again
            finally:
                self._room.release()

    def _take(self, answer: partial[None], message: Message) -> None:
        match message:
            case Execute():
                try:
                    asked = self._client.submit(message.circuit, message.shots, message.raw_data)
                except QslurmError as error:
                    answer(Refused(kind=error.kind, reason=str(error)))
                    return
                asked.add_done_callback(lambda future: answer(_executed(message.seq, future)))
            case Conclude():
                self.final_result = message.final_result or self.final_result
                answer(Done())
            case _:
                raise InvalidInputError("That is not for a session.")


@contextmanager
def handed_over(client: SessionClient) -> Iterator[Handover]:
    """Give a session to processes of this user; `path` is what VARIABLE has to say in their environment."""
    folder = tempfile.mkdtemp(prefix="qslurm-", dir=_short())
    try:
        handover = Handover(client, Path(folder))
        try:
            yield handover
        finally:
            handover.close()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _short() -> str:
    """A folder for temporary files whose name leaves room for a socket's."""
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


def _answer(link: socket.socket, lock: threading.Lock, number: int, message: Message) -> None:
    try:
        _send(link, lock, number, encode(message))
    except (OSError, ValueError):
        return  # it has left


def _send(link: socket.socket, lock: threading.Lock, number: int, body: bytes) -> None:
    with lock:
        link.sendall(frame(number, body))
