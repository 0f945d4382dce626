"""Where everybody may speak to the dispatcher: its Unix socket.

It is read here and not by libzmq, so that everything that somebody else can make this process keep is
counted and bounded: bytes, frames, messages, connections and time, for each connection and for each user. ZeroMQ's
clients don't notice. Who has too much under way is not read from until it is less; who breaks a rule is disconnected.
"""

from __future__ import annotations

import errno
import select
import socket
import struct
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from qslurm.dispatcher.entrance.zmtp import Wire, WireError, pack
from qslurm.dispatcher.wire import BODY_LIMIT, MESSAGE_FRAMES, MESSAGE_SLACK
from qslurm.eventlog import EventLog

log = EventLog(__name__)

MOST_CONNECTIONS = 1024
"""Of one user at a time; a job step has one."""

UNFINISHED_S = 10.0
"""Who has begun something, a greeting or a message, has to come to its end in this time."""

UNREAD = 64 * 1024 * 1024
"""Bytes of messages that are not complete, of one user."""

UNSENT = 512 * 1024 * 1024
"""Bytes of answers that one user does not take."""

UNANSWERED = 64
"""Questions of one connection."""

_READ = 256 * 1024
_AT_ONCE = 16  # messages of one user in one round
_ACCEPT_AGAIN_S = 0.2
_PEER = struct.Struct("3i")  # struct ucred: pid, uid, gid (unix(7), SO_PEERCRED)


@dataclass(eq=False)
class _Guest:
    """A connection. `since` is when what is not finished was begun, None while everything is."""

    socket: socket.socket
    name: bytes
    uid: int
    wire: Wire
    since: float | None
    kept: int = 0
    unanswered: int = 0
    unsent: deque[memoryview] = field(default_factory=deque)
    unsent_bytes: int = 0
    events: int = select.EPOLLIN


class Front:
    """Whoever is connected: poll `ear`, and `hear` when something is there or `waiting` is true.

    Those who are `exempt` (uids) are not counted, only bounded.
    """

    def __init__(self, exempt: frozenset[int], *, clock: Callable[[], float] = time.monotonic) -> None:
        self._path: Path | None = None
        self._listener: socket.socket | None = None
        self._exempt = exempt
        self._clock = clock
        self._guests: dict[int, _Guest] = {}  # by descriptor
        self._names: dict[bytes, _Guest] = {}
        self._number = 0
        self._connections: Counter[int] = Counter()
        self._unread: Counter[int] = Counter()
        self._unsent: Counter[int] = Counter()
        self._paused: dict[int, set[_Guest]] = {}  # by uid
        self._buffered: dict[_Guest, None] = {}  # may have a whole message, in order
        self._unfinished: set[_Guest] = set()
        self._warned: set[tuple[int, str]] = set()
        self._accept_again: float | None = None
        self._epoll = select.epoll()
        self.ear = self._epoll.fileno()

    def listen(self, path: str) -> None:
        """Take connections at this path."""
        self._path = Path(path)
        self._path.unlink(missing_ok=True)
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        self._listener.bind(path)
        self._listener.listen(512)
        self._epoll.register(self._listener, select.EPOLLIN)

    @property
    def waiting(self) -> bool:
        """Whether there is something to take that `ear` does not tell of."""
        return bool(self._buffered)

    def hear(self, most: int) -> Iterator[list[bytes]]:
        """Messages that have come, each with the name of its connection before it.

        One of each connection at a time, so that nobody has to wait for somebody else's many.
        """
        for descriptor, events in self._epoll.poll(0):
            if self._listener is not None and descriptor == self._listener.fileno():
                self._accept(self._listener)
                continue
            guest = self._guests.get(descriptor)
            if guest is not None and events & select.EPOLLOUT:
                self._flush(guest)
            if guest is not None and events & ~select.EPOLLOUT and descriptor in self._guests:
                self._read(guest)
        taken: Counter[int] = Counter()
        for guest in list(self._buffered):
            if most <= 0:
                return
            if guest not in self._buffered:
                continue
            if taken[guest.uid] >= _AT_ONCE and guest.uid not in self._exempt:
                continue
            message = self._take(guest)
            if message is not None:
                taken[guest.uid] += 1
                most -= 1
                yield [guest.name, *message]

    def send(self, frames: Sequence[bytes]) -> None:
        """Send to the connection that the first frame names, if it is still there."""
        guest = self._names.get(frames[0])
        if guest is not None:
            guest.unanswered = max(0, guest.unanswered - 1)
            self._send(guest, pack(frames[1:]))

    def owner(self, name: bytes) -> int | None:
        """The uid at the other end of a connection; None if it is gone."""
        guest = self._names.get(name)
        return None if guest is None else guest.uid

    def look(self, now: float) -> float:
        """End what takes too long; the answer is when to look again."""
        if self._listener is not None and self._accept_again is not None and now >= self._accept_again:
            self._accept_again = None
            self._epoll.modify(self._listener, select.EPOLLIN)
        begun = [(guest.since, guest) for guest in self._unfinished if guest.since is not None]
        for since, guest in begun:
            if now - since > UNFINISHED_S:
                self._end(guest, "takes too long")
        first = min((since for since, guest in begun if guest in self._unfinished), default=float("inf"))
        again = float("inf") if self._accept_again is None else self._accept_again
        return min(first + UNFINISHED_S, again)

    def close(self) -> None:
        """Take nothing more; what has been answered is sent as far as it is taken at once."""
        for guest in list(self._guests.values()):
            self._end(guest)
        self._epoll.close()
        if self._listener is not None and self._path is not None:
            self._listener.close()
            self._path.unlink(missing_ok=True)

    # --- who comes and goes --------------------------------------------------------------------------

    def _accept(self, listener: socket.socket) -> None:
        for _ in range(64):
            try:
                connection, _ = listener.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}:
                    log.warning("nobody else can come in", why=error.strerror)
                    self._epoll.modify(listener, 0)
                    self._accept_again = self._clock() + _ACCEPT_AGAIN_S
                    return
                log.debug("nobody came in", why=str(error))
                continue
            self.welcome(connection)

    def welcome(self, connection: socket.socket) -> None:
        """Take what comes over this connection, unless its user has too many."""
        peer = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size)
        uid = int(_PEER.unpack(peer)[1])
        if self._connections[uid] >= MOST_CONNECTIONS and uid not in self._exempt:
            self._warn(uid, f"more than {MOST_CONNECTIONS} connections")
            connection.close()
            return
        connection.setblocking(False)
        self._number += 1
        wire = Wire(limit=BODY_LIMIT, slack=MESSAGE_SLACK, frames=MESSAGE_FRAMES)
        guest = _Guest(connection, self._number.to_bytes(8, "big"), uid, wire, self._clock())
        self._connections[uid] += 1
        self._guests[connection.fileno()] = guest
        self._names[guest.name] = guest
        self._unfinished.add(guest)
        self._epoll.register(connection, guest.events)
        self._reply(guest)

    def _end(self, guest: _Guest, why: str = "") -> None:
        if why:
            self._warn(guest.uid, why)
        del self._guests[guest.socket.fileno()]
        del self._names[guest.name]
        self._buffered.pop(guest, None)
        self._unfinished.discard(guest)
        self._paused.get(guest.uid, set()).discard(guest)
        self._count(guest, 0)
        self._unsent[guest.uid] -= guest.unsent_bytes
        self._connections[guest.uid] -= 1
        if not self._connections[guest.uid]:
            for counter in (self._connections, self._unread, self._unsent):
                counter.pop(guest.uid, None)
            self._paused.pop(guest.uid, None)
            self._warned = {one for one in self._warned if one[0] != guest.uid}  # it is worth a word again
        self._epoll.unregister(guest.socket)
        guest.socket.close()

    def _warn(self, uid: int, what: str) -> None:
        if (uid, what) not in self._warned:
            self._warned.add((uid, what))
            log.warning("connection ended", uid=uid, why=what)

    # --- what comes ----------------------------------------------------------------------------------

    def _read(self, guest: _Guest) -> None:
        if self._unread[guest.uid] > UNREAD and guest.uid not in self._exempt:
            self._pause(guest)
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
        guest.wire.feed(data)
        self._count(guest, len(guest.wire))
        self._buffered[guest] = None

    def _take(self, guest: _Guest) -> list[bytes] | None:
        """The next message of a connection that may have one."""
        if not self._may_speak(guest):
            del self._buffered[guest]  # it comes again when it may
            self._pause(guest)
            return None
        try:
            message = guest.wire.take()
        except WireError as error:
            self._end(guest, f"sends {error}")
            return None
        self._reply(guest)
        if guest.socket.fileno() not in self._guests:
            return None
        self._buffered.pop(guest)
        if message is not None:
            guest.unanswered += 1
            guest.since = None
            if len(guest.wire):
                self._buffered[guest] = None  # behind the others
        if len(guest.wire) == 0 and guest.wire.ready:
            guest.since = None
            self._unfinished.discard(guest)
        elif guest.since is None:
            guest.since = self._clock()
            self._unfinished.add(guest)
        self._count(guest, len(guest.wire))
        return message

    def _may_speak(self, guest: _Guest) -> bool:
        return guest.unanswered < UNANSWERED and not guest.unsent

    def _count(self, guest: _Guest, kept: int) -> None:
        """So much is kept of what it has sent; others of the same user may go on when that is less."""
        self._unread[guest.uid] += kept - guest.kept
        guest.kept = kept
        paused = self._paused.get(guest.uid)
        if paused and self._unread[guest.uid] <= UNREAD:
            for one in list(paused):
                self._resume(one)

    def _pause(self, guest: _Guest) -> None:
        self._paused.setdefault(guest.uid, set()).add(guest)
        self._watch(guest, guest.events & ~select.EPOLLIN)

    def _resume(self, guest: _Guest) -> None:
        paused = self._paused.get(guest.uid, set())
        if guest in paused and self._may_speak(guest):
            paused.discard(guest)
            self._watch(guest, guest.events | select.EPOLLIN)
            if len(guest.wire):
                self._buffered[guest] = None

    # --- what goes -----------------------------------------------------------------------------------

    def _reply(self, guest: _Guest) -> None:
        """Send what the wire itself has to say."""
        if guest.wire.reply:
            data = bytes(guest.wire.reply)
            guest.wire.reply.clear()
            self._send(guest, data)

    def _send(self, guest: _Guest, data: bytes) -> None:
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
            if guest.unsent and self._unsent[guest.uid] + len(view) > UNSENT:
                self._end(guest, "takes no answers")
                return
            guest.unsent.append(view)
            guest.unsent_bytes += len(view)
            self._unsent[guest.uid] += len(view)
            self._watch(guest, guest.events | select.EPOLLOUT)
        else:
            self._resume(guest)

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
            self._unsent[guest.uid] -= sent
            rest = guest.unsent[0][sent:]
            if rest:
                guest.unsent[0] = rest
            else:
                guest.unsent.popleft()
        self._watch(guest, guest.events & ~select.EPOLLOUT)
        self._resume(guest)

    def _watch(self, guest: _Guest, events: int) -> None:
        if events != guest.events:
            guest.events = events
            self._epoll.modify(guest.socket, events)
