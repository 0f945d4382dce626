"""A session's reconnecting connection to C2; each request is answered once.

Requests that were not answered when the connection broke are repeated over the next one; C2 knows each execution by its
number, and executes it once. One thread sends and receives; callers get futures.
"""

from __future__ import annotations

import os
import select
import socket
import ssl
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future

from qslurm.c1.sessions.connect import Connect, SessionEndedError, SessionNotOpenError, attach
from qslurm.c1.sessions.pending_requests import PendingRequests
from qslurm.errors import QslurmError, UnreachableError
from qslurm.protocol.dispatcher_client import error_from
from qslurm.protocol.dispatcher_frames import decode_reply
from qslurm.protocol.messages import (
    Attached,
    Conclude,
    Done,
    Execute,
    Message,
    Pending,
    Refused,
)
from qslurm.protocol.session_frames import HEARTBEAT_TIMEOUT_S
from qslurm.system.backoff import Backoff
from qslurm.wire.frames import NO_REQUEST, FrameReader

LINK_LIMIT_S = 300.0
"""Seconds without a connection after which the session is given up."""

_LEAVE_S = 10.0
_READ = 256 * 1024
_CHUNK = 16 * 1024  # what TLS sends at once
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.1, 2.0  # between attempts to connect

_NOT_YET = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)

Ended = Callable[[], QslurmError | None]
"""Queries how the session's job ended (SessionEndedError: normally), or None if it runs.

Raises UnreachableError if C2 does not answer.
"""


class ReconnectingConnection:
    """The requests of one session. Thread-safe; `attached` is C2's description of the session.

    `say` gets a sentence when the connection breaks or is back, and when the reason for waiting changes. `ended` is
    called when C2 holds no session. A connection without data for `silence_s` is given up.
    """

    def __init__(
        self,
        connect: Connect,
        secret: bytes,
        *,
        say: Callable[[str], None],
        ended: Ended,
        limit_s: float = LINK_LIMIT_S,
        silence_s: float = HEARTBEAT_TIMEOUT_S,
    ) -> None:
        self.silence_s = silence_s
        self._connect = connect
        self._secret = secret
        self._say = say
        self._why_ended = ended
        self._limit_s = limit_s
        self._pid = os.getpid()
        self._lock = threading.RLock()
        self._requests = PendingRequests()
        self._fruitless = 0  # consecutive connections without an answer
        self._reported = ""
        self._reported_loss = False
        self.over: QslurmError | None = None
        self._closing = False
        self._received_at = 0.0
        connection, self.attached, frames = self._open()
        self._wake_read, self._wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._thread = threading.Thread(
            target=self._run, args=(connection, frames), name="qslurm-session", daemon=True
        )
        self._thread.start()

    def ask(self, make: Callable[[], Execute | Conclude]) -> Future[Message]:
        """Send a request; the future of its answer or error."""
        if os.getpid() != self._pid:
            raise QslurmError(
                "A session cannot be used in a forked process.",
                hint="Use it in the parent process, or start the workers with `qslurm session -- COMMAND`.",
            )
        with self._lock:
            if self.over is not None:
                raise self.over
            answer = self._requests.add(make())
            self._wake()
        return answer

    def close(self) -> None:
        """Close the connection. A session that was not concluded ends at its idle limit."""
        with self._lock:
            self._closing = True
            self._wake()
        if self._thread is not threading.current_thread():
            self._thread.join(_LEAVE_S)

    def _wake(self) -> None:
        """Wake the thread; call with the lock held."""
        if self._wake_write >= 0:
            try:
                os.write(self._wake_write, b"\0")
            except BlockingIOError:
                return  # the pipe is full: it wakes anyway

    # --- the thread ---------------------------------------------------------------------------

    def _run(self, connection: socket.socket, frames: FrameReader) -> None:
        error: QslurmError
        try:
            while True:
                try:
                    self._serve(connection, frames)
                finally:
                    connection.close()
                if self._closing or self.over is not None:
                    break
                connection, self.attached, frames = self._open_again()
                with self._lock:
                    self._requests.repeat_all()
                if self._reported_loss:
                    self._reported_loss = False
                    self._report("Reconnected to C2.")
        except QslurmError as found:
            error = found
        except Exception as found:  # noqa: BLE001 - callers must not wait forever
            error = QslurmError(f"The session's connection failed: {type(found).__name__}: {found}.")
        else:
            error = self.over or QslurmError("The session was closed.")
        self._end(error)
        with self._lock:  # no call of _wake meanwhile
            os.close(self._wake_read)
            os.close(self._wake_write)
            self._wake_write = -1

    def _end(self, error: QslurmError) -> None:
        with self._lock:
            self.over = self.over or error
            left = self._requests.take_all()
        for request in left:
            request.answer.set_exception(self.over)

    def _open(self) -> tuple[socket.socket, Attached, FrameReader]:
        connection = self._connect()
        try:
            attached, frames = attach(connection, self._secret)
            connection.setblocking(False)
        except BaseException:
            connection.close()
            raise
        self._received_at = time.monotonic()
        return connection, attached, frames

    def _open_again(self) -> tuple[socket.socket, Attached, FrameReader]:
        """Connect, with retries; the error if the session has ended."""
        began = time.monotonic()
        backoff = Backoff(_FIRST_PAUSE_S, _LONGEST_PAUSE_S, at_once=True)
        backoff.failures = self._fruitless
        self._fruitless += 1
        while True:
            self._pause(backoff.fail())
            if self._closing:
                raise QslurmError("The session was closed.")
            try:
                return self._open()
            except SessionNotOpenError:
                why = "C2 does not hold the session"
                try:
                    ended = self._why_ended()
                    began = time.monotonic()  # C2 is reachable; the job was requeued, or is about to end
                except UnreachableError:
                    ended = None
                if ended is not None:
                    raise ended from None
            except UnreachableError as error:
                why = error.message.rstrip(".")
            except OSError as error:
                why = error.strerror or str(error)
            if backoff.failures > self._fruitless:
                self._reported_loss = True
                self._report(f"The connection to C2 was lost ({why}); reconnecting.")
            if time.monotonic() - began > self._limit_s:
                raise UnreachableError(
                    f"C2 has been unreachable for {self._limit_s:g} s ({why}).",
                    hint="C2 ends the session at its idle limit.",
                )

    def _pause(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while not self._closing and (left := until - time.monotonic()) > 0:
            select.select([self._wake_read], [], [], left)
            self._clear_wake()

    def _clear_wake(self) -> None:
        try:
            os.read(self._wake_read, 4096)
        except BlockingIOError:
            return

    def _serve(self, connection: socket.socket, frames: FrameReader) -> None:
        """Send and receive until the connection breaks or all work is done."""
        unsent = bytearray()
        poller = select.poll()
        poller.register(self._wake_read, select.POLLIN)
        self._process(frames)
        while self.over is None and (unsent or not self._closing):
            with self._lock:
                unsent += self._requests.due(self.attached.task, time.monotonic())
            try:
                _write(connection, unsent)
                poller.register(connection, select.POLLIN | (select.POLLOUT if unsent else 0))
                ready = dict(poller.poll(self._poll_timeout_ms()))
                if self._wake_read in ready:
                    self._clear_wake()
                if connection.fileno() in ready and not self._read(connection, frames):
                    return
                self._process(frames)
            except (OSError, QslurmError):
                return
            if time.monotonic() - self._received_at > self.silence_s:
                return

    def _poll_timeout_ms(self) -> int:
        now = time.monotonic()
        first = min(self._received_at + self.silence_s, self._requests.next_event())
        return max(0, int((first - now) * 1000) + 1)

    def _read(self, connection: socket.socket, frames: FrameReader) -> bool:
        """Read available data; False at end of stream."""
        while True:
            try:
                piece = connection.recv(_READ)
            except _NOT_YET:
                return True
            if not piece:
                return False
            self._received_at = time.monotonic()
            frames.feed(piece)

    def _process(self, frames: FrameReader) -> None:
        while (taken := frames.take()) is not None:
            number, body = taken
            if body:
                self._handle(number, decode_reply(body))

    def _handle(self, number: int, message: Message) -> None:
        if number == NO_REQUEST:
            if isinstance(message, Refused):
                if message.kind == SessionNotOpenError.kind:
                    raise SessionNotOpenError(message.reason)
                self._end(error_from(message.kind, message.reason))
            return
        if isinstance(message, Pending):
            with self._lock:  # other threads may add requests
                if message.again:
                    self._requests.repeat(number, time.monotonic())
                is_oldest = self._requests.is_oldest(number)
            if is_oldest:
                self._report(message.reason if message.position or message.again else "")
            return
        if isinstance(message, Refused) and message.kind == SessionNotOpenError.kind:
            raise SessionNotOpenError(message.reason)  # the next connection finds out why
        with self._lock:
            request = self._requests.answered(number)
        if request is None:
            return
        self._fruitless = 0
        self._report("")
        if isinstance(request.message, Conclude) and isinstance(message, Done):
            self.over = SessionEndedError("The session has ended.", hint="Open a new session.")
        if isinstance(message, Refused):
            request.answer.set_exception(error_from(message.kind, message.reason))
        else:
            request.answer.set_result(message)

    def _report(self, reason: str) -> None:
        if reason and reason != self._reported:
            self._say(reason)
        self._reported = reason


def _write(connection: socket.socket, unsent: bytearray) -> None:
    while unsent:
        try:
            sent = connection.send(bytes(unsent[:_CHUNK]))
        except _NOT_YET:
            return
        del unsent[:sent]
