"""Sessions' clients, who come from centers by TCP and TLS: who is let in, and what one of them may cost.

The door is known by its certificate; who comes has a few seconds to show the secret of a session that is held on C2
at this moment, and is let in for that session only. Everything before that is bounded in number, bytes, time and
computing, everything after it as at the dispatcher's own socket (front.py). A session has one client: the last to come.
"""

from __future__ import annotations

import errno
import select
import socket
import ssl
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from qslurm.dispatcher.config import SessionsConfig
from qslurm.dispatcher.entrance.certificate import certificate_of, have_certificate
from qslurm.dispatcher.messages import OPEN_IN_SESSION, Attached, Message, Refused
from qslurm.dispatcher.wire import Address, encode
from qslurm.errors import QslurmError
from qslurm.eventlog import EventLog
from qslurm.sessions.wire import (
    ANSWER_LIMIT,
    BEAT_S,
    HELLO_LIMIT,
    NO_QUESTION,
    PROTOCOL,
    QUESTION_LIMIT,
    BrokenFrameError,
    frame,
    frames,
    hellos,
    host_and_port,
)

log = EventLog(__name__)

STRANGERS = 256
"""Connections that have not shown whose they are."""

STRANGERS_OF_ONE = 16
"""Of these, from one address; the nodes of a center may share one."""

UNPROVEN_S = 5.0
"""For so long."""

HANDSHAKES_A_SECOND = 200
"""Pieces of handshakes that are computed in a second; each takes some 0.1 ms. The others wait."""

_STRANGERS_BYTES = 16 * 1024  # all that a handshake and a Hello may have
_DEAD_MS = 10_000  # a sign of life that nobody acknowledges for so long ends the connection
_READ = 256 * 1024
_RECORD = 64 * 1024
_AGAIN_S = 0.02
_WORD_S = 1.0  # between two words in the log about those who were not let in

_NOT_OPEN = Refused(kind="session", reason="No session is open for this client.")
_OTHER_VERSION = Refused(
    kind="invalid_input", reason="C2 has another version of qslurm, which holds sessions differently."
)


@dataclass(eq=False)
class _Guest:
    """A connection. `until` is when a stranger has to be known; `task` is whose client it is (0: a stranger's)."""

    socket: socket.socket
    name: bytes
    host: str
    tls: ssl.SSLObject
    incoming: ssl.MemoryBIO
    outgoing: ssl.MemoryBIO
    until: float
    task: int = 0
    greeted: bool = False
    came: int = 0
    data: bytearray = field(default_factory=bytearray)
    unanswered: set[int] = field(default_factory=set)
    unsent: deque[memoryview] = field(default_factory=deque)
    unsent_bytes: int = 0
    events: int = select.EPOLLIN


class Callers:
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
        self._unproven: set[_Guest] = set()
        self._strangers: Counter[str] = Counter()  # of these, by address
        self._buffered: dict[_Guest, None] = {}  # may have a whole frame, in order
        self._patient: set[_Guest] = set()  # strangers whose handshake has to wait
        self._room = float(HANDSHAKES_A_SECOND)
        self._room_at = clock()
        self._number = 0
        self._next_beat = self._quiet_until = 0.0
        self._context = _context(Path(config.key))
        self._listener = _listen(config.listen)
        self._epoll = select.epoll()
        self._epoll.register(self._listener, select.EPOLLIN)
        self._deaf_until: float | None = None
        self.ear = self._epoll.fileno()

    @property
    def place(self) -> str:
        """Where they come to, as ADDRESS:PORT."""
        host, port = self._listener.getsockname()[:2]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    @property
    def waiting(self) -> bool:
        """Whether there is something to take that `ear` does not tell of."""
        return bool(self._buffered)

    def hear(self, most: int) -> Iterator[tuple[Address, int, bytes]]:
        """What clients say: where an answer goes, whose client it is, and a message. One of each at a time."""
        for descriptor, events in self._epoll.poll(0):
            if descriptor == self._listener.fileno():
                self._accept()
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
        if self._deaf_until is not None and now >= self._deaf_until:
            self._deaf_until = None
            self._epoll.modify(self._listener, select.EPOLLIN)
        for guest in [one for one in self._unproven if now > one.until]:
            self._end(guest, "does not show whose client it is")
        while self._patient and self._refilled() >= 1:
            guest = self._patient.pop()
            self._watch(guest)
            break  # it takes the room when it is read
        if now >= self._next_beat:
            self._next_beat = now + BEAT_S
            self._beat()
        first = min((one.until for one in self._unproven), default=float("inf")) + 0.01
        soon = now + _AGAIN_S if self._patient else float("inf")
        deaf = float("inf") if self._deaf_until is None else self._deaf_until
        beat = self._next_beat if self._clients else float("inf")
        return min(beat, soon, deaf, first)

    def close(self) -> None:
        """Take nothing more. Clients will look for the next dispatcher."""
        for guest in list(self._guests.values()):
            self._end(guest)
        self._epoll.close()
        self._listener.close()

    # --- who comes and goes --------------------------------------------------------------------------

    def _accept(self) -> None:
        for _ in range(64):
            try:
                connection, address = self._listener.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}:
                    log.warning("nobody else can come in", why=error.strerror)
                    self._epoll.modify(self._listener, 0)
                    self._deaf_until = self._clock() + _AGAIN_S
                    return
                log.debug("nobody came in", why=str(error))
                continue
            self._welcome(connection, str(address[0]))

    def _welcome(self, connection: socket.socket, host: str) -> None:
        if len(self._unproven) >= STRANGERS or self._strangers[host] >= STRANGERS_OF_ONE:
            log.debug("too many strangers", address=host)
            connection.close()
            return
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _DEAD_MS)
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = self._context.wrap_bio(incoming, outgoing, server_side=True)
        self._number += 1
        name = b"caller" + self._number.to_bytes(8, "big")
        until = self._clock() + UNPROVEN_S
        guest = _Guest(connection, name, host, tls, incoming, outgoing, until)
        self._guests[connection.fileno()] = guest
        self._names[name] = guest
        self._strangers[host] += 1
        self._unproven.add(guest)
        self._epoll.register(connection, guest.events)

    def _end(self, guest: _Guest, why: str = "") -> None:
        descriptor = guest.socket.fileno()
        if self._guests.pop(descriptor, None) is None:
            return
        if why:
            log.debug("connection ended", address=guest.host, task=guest.task, why=why)
        del self._names[guest.name]
        self._buffered.pop(guest, None)
        self._patient.discard(guest)
        if not guest.task:
            self._forget_stranger(guest)
        elif self._clients.get(guest.task) is guest:
            del self._clients[guest.task]
            log.info("a session's client is away", task=guest.task, address=guest.host)
        self._epoll.unregister(guest.socket)
        guest.socket.close()

    def _forget_stranger(self, guest: _Guest) -> None:
        self._unproven.discard(guest)
        self._strangers[guest.host] -= 1
        if not self._strangers[guest.host]:
            del self._strangers[guest.host]

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
        self._forget_stranger(guest)
        guest.task = attached.task
        self._clients[attached.task] = guest
        log.info("a session's client is there", task=attached.task, address=guest.host)
        self._send(guest, frame(NO_QUESTION, encode(attached)))

    def _note_refused(self, host: str) -> None:
        now = self._clock()
        if now >= self._quiet_until:
            self._quiet_until = now + _WORD_S
            log.info("somebody is not let in", address=host)

    def _send_away(self, guest: _Guest, why: Refused) -> None:
        self._send(guest, frame(NO_QUESTION, encode(why)))
        self._end(guest)

    def _beat(self) -> None:
        for task, guest in list(self._clients.items()):
            if not self._is_open(task):
                self._end(guest, "its session has ended")
            elif not guest.unsent:
                self._send(guest, frame(NO_QUESTION, b""))

    # --- what comes ----------------------------------------------------------------------------------

    def _read(self, guest: _Guest) -> None:
        if not guest.task and not self._has_room():
            self._patient.add(guest)
            self._watch(guest)
            return
        try:
            data = guest.socket.recv(_READ)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._end(guest)
            return
        guest.came += len(data)
        if not guest.task and guest.came > _STRANGERS_BYTES:
            self._end(guest, "says too much before it is known")
            return
        try:
            self._decrypt(guest, data)
        except ssl.SSLError as error:
            self._end(guest, f"TLS: {error.reason}")
            return
        if guest.socket.fileno() in self._guests and guest.data:
            self._buffered[guest] = None
            self._watch(guest)

    def _decrypt(self, guest: _Guest, data: bytes) -> None:
        guest.incoming.write(data)
        try:
            if not guest.greeted:
                guest.tls.do_handshake()
                guest.greeted = True
            while piece := guest.tls.read(_RECORD):
                guest.data += piece
        except ssl.SSLWantReadError:
            pass  # that was all
        if guest.outgoing.pending:
            self._send_raw(guest, guest.outgoing.read())

    def _has_room(self) -> bool:
        """Whether a piece of a handshake may be computed now."""
        if self._refilled() < 1:
            return False
        self._room -= 1
        return True

    def _refilled(self) -> float:
        now, most = self._clock(), float(HANDSHAKES_A_SECOND)
        self._room = min(most, self._room + (now - self._room_at) * most)
        self._room_at = now
        return self._room

    def _take(self, guest: _Guest) -> tuple[int, bytes] | None:
        """The next message of a connection that may have one; strangers' are taken care of here."""
        del self._buffered[guest]
        if not self._may_speak(guest):
            return None  # it comes again when it may
        try:
            said = next(frames(guest.data, QUESTION_LIMIT if guest.task else HELLO_LIMIT), None)
        except BrokenFrameError as error:
            self._end(guest, error.message)
            return None
        if said is None:
            return None
        if guest.data:
            self._buffered[guest] = None  # behind the others
        if not guest.task:
            self._let_in(guest, said[1])
            return None
        guest.unanswered.add(said[0])
        self._watch(guest)
        return said

    def _may_speak(self, guest: _Guest) -> bool:
        return len(guest.unanswered) < OPEN_IN_SESSION + 2 and not guest.unsent

    # --- what goes -----------------------------------------------------------------------------------

    def _send(self, guest: _Guest, data: bytes) -> None:
        guest.tls.write(data)
        self._send_raw(guest, guest.outgoing.read())
        if guest.socket.fileno() in self._guests and guest.data and self._may_speak(guest):
            self._buffered[guest] = None

    def _send_raw(self, guest: _Guest, data: bytes) -> None:
        view = memoryview(data)
        if not guest.unsent:
            try:
                view = view[guest.socket.send(view) :]
            except BlockingIOError:
                pass
            except OSError:
                self._end(guest)
                return
        if view:
            if guest.unsent and guest.unsent_bytes + len(view) > ANSWER_LIMIT:
                self._end(guest, "takes no answers")
                return
            guest.unsent.append(view)
            guest.unsent_bytes += len(view)
        self._watch(guest)

    def _flush(self, guest: _Guest) -> None:
        while guest.unsent:
            try:
                sent = guest.socket.send(guest.unsent[0])
            except BlockingIOError:
                return
            except OSError:
                self._end(guest)
                return
            guest.unsent_bytes -= sent
            rest = guest.unsent[0][sent:]
            if rest:
                guest.unsent[0] = rest
            else:
                guest.unsent.popleft()
        if guest.data:
            self._buffered[guest] = None
        self._watch(guest)

    def _watch(self, guest: _Guest) -> None:
        """Read from whom we want to hear, write to whom there is something to say."""
        reads = (
            guest not in self._patient
            and self._may_speak(guest)
            and len(guest.data) <= QUESTION_LIMIT + _READ
        )
        events = (select.EPOLLIN if reads else 0) | (select.EPOLLOUT if guest.unsent else 0)
        if events != guest.events and guest.socket.fileno() in self._guests:
            guest.events = events
            self._epoll.modify(guest.socket, events)


def _context(key: Path) -> ssl.SSLContext:
    have_certificate(key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.num_tickets = 0
    context.load_cert_chain(certificate_of(key), key)
    return context


def _listen(place: str) -> socket.socket:
    host, port = host_and_port(place)
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.create_server((host, port), family=family, backlog=128)
    except OSError as error:
        raise QslurmError(
            f"[sessions] listen: {place} can't be listened at: {error.strerror}.",
            hint="It is ADDRESS:PORT, with an address of this host and a port that nobody has.",
        ) from error
    listener.setblocking(False)
    return listener
