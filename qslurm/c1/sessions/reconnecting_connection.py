"""A session's reconnecting connection to C2; each request is answered once.

Whatever was not answered when the link broke is asked again over the next one; that costs nothing, since C2 knows each
execution by its number. One thread does all that is sent and received; who asks gets futures.
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

UnreachableError: nobody knows.
"""


class ReconnectingConnection:
    """The requests of one session. Thread-safe; `attached` is C2's description of the session.

    `say` gets a sentence when the link breaks or is back, and when the reason for waiting changes. `ended` is asked
    when C2 knows of no session. A link without a sign of life for `silence_s` is given up.
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
        self._questions = PendingRequests()
        self._barren = 0  # connections in a row that brought no answer
        self._said = ""
        self._told_of_cut = False
        self.over: QslurmError | None = None
        self._closing = False
        self._heard = 0.0
        link, self.attached, frames = self._open()
        self._ear, self._bell = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._thread = threading.Thread(
            target=self._run, args=(link, frames), name="qslurm-session", daemon=True
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
            answer = self._questions.add(make())
            self._ring()
        return answer

    def close(self) -> None:
        """Close the connection. A session that was not concluded ends at its idle limit."""
        with self._lock:
            self._closing = True
            self._ring()
        if self._thread is not threading.current_thread():
            self._thread.join(_LEAVE_S)

    def _ring(self) -> None:
        """Wake the link's thread; call with the lock held."""
        if self._bell >= 0:
            try:
                os.write(self._bell, b"\0")
            except BlockingIOError:
                return  # it wakes anyway

    # --- the link's thread ---------------------------------------------------------------------------

    def _run(self, link: socket.socket, frames: FrameReader) -> None:
        error: QslurmError
        try:
            while True:
                try:
                    self._serve(link, frames)
                finally:
                    link.close()
                if self._closing or self.over is not None:
                    break
                link, self.attached, frames = self._open_again()
                with self._lock:
                    self._questions.all_again()
                if self._told_of_cut:
                    self._told_of_cut = False
                    self._tell("Reconnected to C2.")
        except QslurmError as found:
            error = found
        except Exception as found:  # noqa: BLE001 - whatever it is, nobody may wait for ever
            error = QslurmError(f"The session's connection failed: {type(found).__name__}: {found}.")
        else:
            error = self.over or QslurmError("The session was closed.")
        self._end(error)
        with self._lock:  # nobody rings meanwhile
            os.close(self._ear)
            os.close(self._bell)
            self._bell = -1

    def _end(self, error: QslurmError) -> None:
        with self._lock:
            self.over = self.over or error
            left = self._questions.take_all()
        for question in left:
            question.answer.set_exception(self.over)

    def _open(self) -> tuple[socket.socket, Attached, FrameReader]:
        link = self._connect()
        try:
            attached, frames = attach(link, self._secret)
            link.setblocking(False)
        except BaseException:
            link.close()
            raise
        self._heard = time.monotonic()
        return link, attached, frames

    def _open_again(self) -> tuple[socket.socket, Attached, FrameReader]:
        """Connect, with retries; the error if the session has ended."""
        began = time.monotonic()
        backoff = Backoff(_FIRST_PAUSE_S, _LONGEST_PAUSE_S, at_once=True)
        backoff.failures = self._barren
        self._barren += 1
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
                    began = time.monotonic()  # C2 is there; its job is back in the queue, or about to end
                except UnreachableError:
                    ended = None
                if ended is not None:
                    raise ended from None
            except UnreachableError as error:
                why = error.message.rstrip(".")
            except OSError as error:
                why = error.strerror or str(error)
            if backoff.failures > self._barren:
                self._told_of_cut = True
                self._tell(f"The connection to C2 was lost ({why}); reconnecting.")
            if time.monotonic() - began > self._limit_s:
                raise UnreachableError(
                    f"C2 has been unreachable for {self._limit_s:g} s ({why}).",
                    hint="C2 ends the session at its idle limit.",
                )

    def _pause(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while not self._closing and (left := until - time.monotonic()) > 0:
            select.select([self._ear], [], [], left)
            self._silence_bell()

    def _silence_bell(self) -> None:
        try:
            os.read(self._ear, 4096)
        except BlockingIOError:
            return

    def _serve(self, link: socket.socket, frames: FrameReader) -> None:
        """Send and receive until the connection breaks or all work is done."""
        unsent = bytearray()
        poller = select.poll()
        poller.register(self._ear, select.POLLIN)
        self._take_in(frames)
        while self.over is None and (unsent or not self._closing):
            with self._lock:
                unsent += self._questions.due(self.attached.task, time.monotonic())
            try:
                _write(link, unsent)
                poller.register(link, select.POLLIN | (select.POLLOUT if unsent else 0))
                ready = dict(poller.poll(self._poll_timeout_ms()))
                if self._ear in ready:
                    self._silence_bell()
                if link.fileno() in ready and not self._read(link, frames):
                    return
                self._take_in(frames)
            except (OSError, QslurmError):
                return
            if time.monotonic() - self._heard > self.silence_s:
                return

    def _poll_timeout_ms(self) -> int:
        now = time.monotonic()
        first = min(self._heard + self.silence_s, self._questions.next_event())
        return max(0, int((first - now) * 1000) + 1)

    def _read(self, link: socket.socket, frames: FrameReader) -> bool:
        """Read available data; False at end of stream."""
        while True:
            try:
                piece = link.recv(_READ)
            except _NOT_YET:
                return True
            if not piece:
                return False
            self._heard = time.monotonic()
            frames.feed(piece)

    def _take_in(self, frames: FrameReader) -> None:
        while (taken := frames.take()) is not None:
            number, body = taken
            if body:
                self._take(number, decode_reply(body))

    def _take(self, number: int, message: Message) -> None:
        if number == NO_REQUEST:
            if isinstance(message, Refused):
                if message.kind == SessionNotOpenError.kind:
                    raise SessionNotOpenError(message.reason)
                self._end(error_from(message.kind, message.reason))
            return
        if isinstance(message, Pending):
            with self._lock:  # others may be asking
                if message.again:
                    self._questions.again(number, time.monotonic())
                is_oldest = self._questions.is_oldest(number)
            if is_oldest:
                self._tell(message.reason if message.position or message.again else "")
            return
        if isinstance(message, Refused) and message.kind == SessionNotOpenError.kind:
            raise SessionNotOpenError(message.reason)  # another link finds out what has become of it
        with self._lock:
            question = self._questions.answered(number)
        if question is None:
            return
        self._barren = 0
        self._tell("")
        if isinstance(question.message, Conclude) and isinstance(message, Done):
            self.over = SessionEndedError("The session has ended.", hint="Open a new session.")
        if isinstance(message, Refused):
            question.answer.set_exception(error_from(message.kind, message.reason))
        else:
            question.answer.set_result(message)

    def _tell(self, reason: str) -> None:
        if reason and reason != self._said:
            self._say(reason)
        self._said = reason


def _write(link: socket.socket, unsent: bytearray) -> None:
    while unsent:
        try:
            sent = link.send(bytes(unsent[:_CHUNK]))
        except _NOT_YET:
            return
        del unsent[:sent]
