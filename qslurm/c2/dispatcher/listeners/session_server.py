"""Sessions' clients, who come from centers by TCP and TLS: who is let in, and what one of them may cost.

The door is known by its certificate; who comes has a few seconds to show the secret of a session that is held on C2
at this moment, and is let in for that session only. Everything before that is bounded in number, bytes, time and
computing, everything after it as at the dispatcher's own socket (front.py). A session has one client: the last to come.
"""

from __future__ import annotations

import select
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from qslurm.c2.config.dispatcher import SessionsConfig
from qslurm.c2.dispatcher.listeners.accept import AcceptSocket
from qslurm.c2.dispatcher.listeners.tls_connection import TlsConnection, listen_at, server_context
from qslurm.protocol.dispatcher_frames import Address, encode
from qslurm.protocol.handshake_limits import STRANGERS_BYTES, HandshakeLimits
from qslurm.protocol.messages import OPEN_IN_SESSION, Attached, Message, Refused
from qslurm.protocol.session_frames import (
    ANSWER_LIMIT,
    BEAT_S,
    HELLO_LIMIT,
    PROTOCOL,
    QUESTION_LIMIT,
    hellos,
)
from qslurm.system.event_log import EventLog
from qslurm.wire.frames import NO_REQUEST, FrameError, frame

log = EventLog(__name__)

_DEAD_MS = 10_000  # a sign of life that nobody acknowledges for so long ends the connection
_READ = 256 * 1024
_WORD_S = 1.0  # between two words in the log about those who were not let in

_NOT_OPEN = Refused(kind="session", reason="No session is open for this client.")
_OTHER_VERSION = Refused(
    kind="invalid_input", reason="C2 has another version of qslurm, which holds sessions differently."
)


@dataclass(eq=False)
class _Guest:
    """A connection. `task` is whose client it is (0: a stranger's), `unanswered` are the numbers of its questions."""

    link: TlsConnection
    name: bytes
    host: str
    task: int = 0
    unanswered: set[int] = field(default_factory=set)
    events: int = select.EPOLLIN

    @property
    def is_gone(self) -> bool:
        """Whether its connection has ended."""
        return self.link.socket.fileno() < 0

    @property
    def may_speak(self) -> bool:
        """Whether another question is taken from it."""
        return len(self.unanswered) < OPEN_IN_SESSION + 2 and not self.link.unsent


class SessionServer:
    """Poll `ear`, and `hear` when something is there or `waiting` is true; `look` from time to time.

    `enter` gives the session that a secret opens, `is_open` says whether a task still has one. Times are monotonic
    seconds.
    """

    def __init__(
        self,
        config: SessionsConfig,
        *,
        enter: Callable[[bytes], Attached | None],
        is_open: Callable[[int], bool],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._enter = enter
        self._is_open = is_open
        self._clock = clock
        self._guests: dict[int, _Guest] = {}  # by descriptor
        self._names: dict[bytes, _Guest] = {}
        self._clients: dict[int, _Guest] = {}  # by task
        self._strangers: HandshakeLimits[_Guest] = HandshakeLimits(clock)
        self._buffered: dict[_Guest, None] = {}  # may have a whole frame, in order
        self._number = 0
        self._next_beat = self._quiet_until = 0.0
        self._context = server_context(Path(config.key))
        self._epoll = select.epoll()
        self._listener = AcceptSocket(listen_at(config.listen), self._epoll, clock)
        self.ear = self._epoll.fileno()

    @property
    def place(self) -> str:
        """Where they come to, as ADDRESS:PORT."""
        host, port = self._listener.name()[:2]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    @property
    def waiting(self) -> bool:
        """Whether there is something to take that `ear` does not tell of."""
        return bool(self._buffered)

    def hear(self, most: int) -> Iterator[tuple[Address, int, bytes]]:
        """What clients say: where an answer goes, whose client it is, and a message. One of each at a time."""
        for descriptor, events in self._epoll.poll(0):
            if descriptor == self._listener.descriptor:
                for connection, address in self._listener.come():
                    self._welcome(connection, str(address[0]))
                continue
            guest = self._guests.get(descriptor)
            if guest is not None and events & select.EPOLLOUT:
                self._flush(guest)
            if guest is not None and events & ~select.EPOLLOUT and descriptor in self._guests:
                self._read(guest)
        for guest in list(self._buffered):
            if most <= 0:
                return
            said = self._take(guest) if guest in self._buffered else None
            if said is not None:
                most -= 1
                number, body = said
                yield (guest.name, number.to_bytes(8, "big")), guest.task, body

    def owns(self, address: Address) -> bool:
        """Whether an address is that of a client who is there."""
        return address[0] in self._names

    def address_of(self, task: int) -> Address | None:
        """Where to tell the client of a session what it has not asked for; None if it is not there."""
        guest = self._clients.get(task)
        return None if guest is None else (guest.name, bytes(8))

    def send(self, address: Address, message: Message, *, final: bool) -> None:
        """Send to a client, if it is still there; what is not `final` leaves its question open."""
        guest = self._names.get(address[0])
        if guest is None:
            return
        number = int.from_bytes(address[1], "big")
        if final:
            guest.unanswered.discard(number)
        self._send(guest, frame(number, encode(message)))

    def look(self, now: float) -> float:
        """End who takes too long, let others know that we are there; the answer is when to look again."""
        for guest in self._strangers.overdue(now):
            self._end(guest, "does not show whose client it is")
        while (patient := self._strangers.next_patient()) is not None:
            self._watch(patient)
        if now >= self._next_beat:
            self._next_beat = now + BEAT_S
            self._beat()
        beat = self._next_beat if self._clients else float("inf")
        return min(beat, self._listener.look(now), self._strangers.next_event(now))

    def close(self) -> None:
        """Take nothing more. Clients will look for the next dispatcher."""
        for guest in list(self._guests.values()):
            self._end(guest)
        self._epoll.close()
        self._listener.close()

    # --- who comes and goes --------------------------------------------------------------------------

    def _welcome(self, connection: socket.socket, host: str) -> None:
        while (oldest := self._strangers.in_the_way(host)) is not None:
            self._end(oldest, "gives way: there are too many strangers")
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _DEAD_MS)
        self._number += 1
        name = b"caller" + self._number.to_bytes(8, "big")
        link = TlsConnection(connection, self._context, limit=HELLO_LIMIT)
        guest = _Guest(link, name, host)
        self._guests[connection.fileno()] = guest
        self._names[name] = guest
        self._strangers.add(guest)
        self._epoll.register(connection, guest.events)

    def _end(self, guest: _Guest, why: str = "") -> None:
        if guest.is_gone:
            return
        del self._guests[guest.link.socket.fileno()]
        if why:
            log.debug("connection ended", address=guest.host, task=guest.task, why=why)
        del self._names[guest.name]
        self._buffered.pop(guest, None)
        self._strangers.remove(guest)
        if guest.task and self._clients.get(guest.task) is guest:
            del self._clients[guest.task]
            log.info("a session's client is away", task=guest.task, address=guest.host)
        self._epoll.unregister(guest.link.socket)
        guest.link.socket.close()

    def _let_in(self, guest: _Guest, body: bytes) -> None:
        """Somebody has said hello."""
        try:
            hello = hellos.decode(body)
        except msgspec.DecodeError:
            self._end(guest, "does not say hello")
            return
        if hello.protocol != PROTOCOL:
            self._send_away(guest, _OTHER_VERSION)
            return
        attached = self._enter(hello.secret)
        if attached is None:
            self._note_refused(guest.host)
            self._send_away(guest, _NOT_OPEN)
            return
        before = self._clients.get(attached.task)
        if before is not None:
            self._end(before, "another connection took its place")
        self._strangers.remove(guest)
        guest.task = attached.task
        guest.link.data.limit = QUESTION_LIMIT
        self._clients[attached.task] = guest
        log.info("a session's client is there", task=attached.task, address=guest.host)
        self._send(guest, frame(NO_REQUEST, encode(attached)))

    def _note_refused(self, host: str) -> None:
        now = self._clock()
        if now >= self._quiet_until:
            self._quiet_until = now + _WORD_S
            log.info("somebody is not let in", address=host)

    def _send_away(self, guest: _Guest, why: Refused) -> None:
        self._send(guest, frame(NO_REQUEST, encode(why)))
        self._end(guest)

    def _beat(self) -> None:
        for task, guest in list(self._clients.items()):
            if not self._is_open(task):
                self._end(guest, "its session has ended")
            elif not guest.link.unsent:
                self._send(guest, frame(NO_REQUEST, b""))

    # --- what comes ----------------------------------------------------------------------------------

    def _read(self, guest: _Guest) -> None:
        if not guest.task and not self._strangers.may_compute(guest):
            self._watch(guest)
            return
        try:
            data = guest.link.receive(_READ)
        except BlockingIOError:
            return
        if not data:
            self._end(guest)
            return
        if not guest.task and guest.link.came > STRANGERS_BYTES:
            self._end(guest, "says too much before it is known")
            return
        try:
            answer = guest.link.decrypt(data)
        except ssl.SSLError as error:
            self._end(guest, f"TLS: {error.reason}")
            return
        self._send_raw(guest, answer)
        if not guest.is_gone and len(guest.link.data):
            self._buffered[guest] = None
            self._watch(guest)

    def _take(self, guest: _Guest) -> tuple[int, bytes] | None:
        """The next message of a connection that may have one; strangers' are taken care of here."""
        del self._buffered[guest]
        if not guest.may_speak:
            return None  # it comes again when it may
        try:
            said = guest.link.data.take()
        except FrameError as error:
            self._end(guest, str(error))
            return None
        if said is None:
            return None
        if len(guest.link.data):
            self._buffered[guest] = None  # behind the others
        if not guest.task:
            self._let_in(guest, said[1])
            return None
        guest.unanswered.add(said[0])
        self._watch(guest)
        return said

    # --- what goes -----------------------------------------------------------------------------------

    def _send(self, guest: _Guest, data: bytes) -> None:
        self._send_raw(guest, guest.link.encrypt(data))
        if not guest.is_gone and len(guest.link.data) and guest.may_speak:
            self._buffered[guest] = None

    def _send_raw(self, guest: _Guest, data: bytes) -> None:
        unsent = guest.link.unsent
        if unsent and unsent.size + len(data) > ANSWER_LIMIT:
            self._end(guest, "takes no answers")
            return
        try:
            unsent.send(data)
        except OSError:
            self._end(guest)
            return
        self._watch(guest)

    def _flush(self, guest: _Guest) -> None:
        try:
            guest.link.unsent.flush()
        except OSError:
            self._end(guest)
            return
        if not guest.link.unsent:
            if len(guest.link.data):
                self._buffered[guest] = None
            self._watch(guest)

    def _watch(self, guest: _Guest) -> None:
        """Read from whom we want to hear, write to whom there is something to say."""
        reads = (
            not self._strangers.is_patient(guest)
            and guest.may_speak
            and len(guest.link.data) <= QUESTION_LIMIT + _READ
        )
        events = (select.EPOLLIN if reads else 0) | (select.EPOLLOUT if guest.link.unsent else 0)
        if events != guest.events and not guest.is_gone:
            guest.events = events
            self._epoll.modify(guest.link.socket, events)
