"""Where everybody may speak to the dispatcher: its Unix socket.

It is read here and not by libzmq, so that everything that somebody else can make this process keep is
counted and bounded: bytes, frames, messages, connections and time, for each connection and for each user. ZeroMQ's
clients don't notice. Who has too much under way is not read from until it is less; who breaks a rule is disconnected.
"""

from __future__ import annotations

import select
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from qslurm.c2.dispatcher.listeners import user_limits
from qslurm.c2.dispatcher.listeners.accept import AcceptSocket
from qslurm.c2.dispatcher.listeners.send_buffer import SendBuffer
from qslurm.protocol.dispatcher_frames import BODY_LIMIT, MESSAGE_FRAMES, MESSAGE_SLACK
from qslurm.protocol.zmtp import Wire, WireError, pack
from qslurm.system.event_log import EventLog
from qslurm.wire.peer import Peer

log = EventLog(__name__)

UNFINISHED_S = 10.0
"""Who has begun something, a greeting or a message, has to come to its end in this time."""

UNANSWERED = 64
"""Questions of one connection."""

_READ = 256 * 1024
_AT_ONCE = 16  # messages of one user in one round


@dataclass(eq=False)
class _Guest:
    """A connection. `since` is when what is not finished was begun, None while everything is.

    `unread` and `unsent_counted` are the bytes of it that are counted with its user's.
    """

    socket: socket.socket
    name: bytes
    peer: Peer
    user: user_limits.User[_Guest]
    wire: Wire
    unsent: SendBuffer
    since: float | None
    unread: int = 0
    unsent_counted: int = 0
    unanswered: int = 0
    events: int = select.EPOLLIN

    @property
    def may_speak(self) -> bool:
        """Whether another question is taken from it."""
        return self.unanswered < UNANSWERED and not self.unsent


class UnixListener:
    """Whoever is connected: poll `ear`, and `hear` when something is there or `waiting` is true.

    Those who are `exempt` (uids) are bounded at each connection only.
    """

    def __init__(self, exempt: frozenset[int], *, clock: Callable[[], float] = time.monotonic) -> None:
        self._path: Path | None = None
        self._listener: AcceptSocket | None = None
        self._exempt = exempt
        self._clock = clock
        self._guests: dict[int, _Guest] = {}  # by descriptor
        self._names: dict[bytes, _Guest] = {}
        self._number = 0
        self._users: dict[int, user_limits.User[_Guest]] = {}  # by uid
        self._buffered: dict[_Guest, None] = {}  # may have a whole message, in order
        self._unfinished: set[_Guest] = set()
        self._epoll = select.epoll()
        self.ear = self._epoll.fileno()

    def listen(self, path: str) -> None:
        """Take connections at this path."""
        self._path = Path(path)
        self._path.unlink(missing_ok=True)
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        listening.bind(path)
        listening.listen(512)
        self._listener = AcceptSocket(listening, self._epoll, self._clock)

    @property
    def waiting(self) -> bool:
        """Whether there is something to take that `ear` does not tell of."""
        return bool(self._buffered)

    def hear(self, most: int) -> Iterator[list[bytes]]:
        """Messages that have come, each with the name of its connection before it.

        One of each connection at a time, so that nobody has to wait for somebody else's many.
        """
        for descriptor, events in self._epoll.poll(0):
            if self._listener is not None and descriptor == self._listener.descriptor:
                for connection, _ in self._listener.come():
                    self.welcome(connection)
                continue
            guest = self._guests.get(descriptor)
            if guest is not None and events & select.EPOLLOUT:
                self._send(guest)
            if guest is not None and events & ~select.EPOLLOUT and descriptor in self._guests:
                self._read(guest)
        taken: Counter[int] = Counter()
        for guest in list(self._buffered):
            if most <= 0:
                return
            if guest not in self._buffered:
                continue
            if taken[guest.user.uid] >= _AT_ONCE and not guest.user.exempt:
                continue
            message = self._take(guest)
            if message is not None:
                taken[guest.user.uid] += 1
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
        return None if guest is None else guest.user.uid

    def job(self, name: bytes) -> int | None:
        """The Slurm job of the process that made a connection; None if it is in none, or gone."""
        guest = self._names.get(name)
        return None if guest is None else guest.peer.job()

    def look(self, now: float) -> float:
        """End what takes too long; the answer is when to look again."""
        again = float("inf") if self._listener is None else self._listener.look(now)
        begun = [(guest.since, guest) for guest in self._unfinished if guest.since is not None]
        for since, guest in begun:
            if now - since > UNFINISHED_S:
                self._end(guest, "takes too long")
        first = min((since for since, guest in begun if guest in self._unfinished), default=float("inf"))
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

    def welcome(self, connection: socket.socket, *, hurried: bool = True) -> None:
        """Take what comes over this connection, unless its user has too many; who is `hurried` has to greet soon."""
        peer = Peer(connection)
        user = self._users.setdefault(peer.uid, user_limits.User(peer.uid, exempt=peer.uid in self._exempt))
        if user.has_too_many_connections:
            user.warn(f"more than {user_limits.MOST_CONNECTIONS} connections")
            peer.close()
            connection.close()
            return
        connection.setblocking(False)
        self._number += 1
        wire = Wire(limit=BODY_LIMIT, slack=MESSAGE_SLACK, frames=MESSAGE_FRAMES)
        name = self._number.to_bytes(8, "big")
        since = self._clock() if hurried else None
        guest = _Guest(connection, name, peer, user, wire, SendBuffer(connection), since)
        user.connections += 1
        self._guests[connection.fileno()] = guest
        self._names[name] = guest
        if hurried:
            self._unfinished.add(guest)
        self._epoll.register(connection, guest.events)
        self._reply(guest)

    def _end(self, guest: _Guest, why: str = "") -> None:
        user = guest.user
        if why:
            user.warn(why)
        del self._guests[guest.socket.fileno()]
        del self._names[guest.name]
        self._buffered.pop(guest, None)
        self._unfinished.discard(guest)
        user.paused.discard(guest)
        self._count(guest, 0)
        user.unsent -= guest.unsent_counted
        user.connections -= 1
        if not user.connections:
            del self._users[user.uid]
        self._epoll.unregister(guest.socket)
        guest.peer.close()
        guest.socket.close()

    # --- what comes ----------------------------------------------------------------------------------

    def _read(self, guest: _Guest) -> None:
        if guest.user.has_too_much_unread:
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
        if not guest.may_speak:
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

    def _count(self, guest: _Guest, unread: int) -> None:
        """So much of what it has sent is not complete; others of the same user may go on when that is less."""
        user = guest.user
        user.unread += unread - guest.unread
        guest.unread = unread
        if not user.has_too_much_unread:
            for one in list(user.paused):
                self._resume(one)

    def _pause(self, guest: _Guest) -> None:
        guest.user.paused.add(guest)
        self._watch(guest, guest.events & ~select.EPOLLIN)

    def _resume(self, guest: _Guest) -> None:
        if guest in guest.user.paused and guest.may_speak:
            guest.user.paused.discard(guest)
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

    def _send(self, guest: _Guest, data: bytes = b"") -> None:
        """Send this, and what is there from before."""
        user = guest.user
        if data and guest.unsent and not user.may_leave_unsent(len(data)):
            self._end(guest, "takes no answers")
            return
        try:
            if data:
                guest.unsent.send(data)
            else:
                guest.unsent.flush()
        except OSError:
            self._end(guest)
            return
        user.unsent += guest.unsent.size - guest.unsent_counted
        guest.unsent_counted = guest.unsent.size
        if guest.unsent:
            self._watch(guest, guest.events | select.EPOLLOUT)
        else:
            self._watch(guest, guest.events & ~select.EPOLLOUT)
            self._resume(guest)

    def _watch(self, guest: _Guest, events: int) -> None:
        if events != guest.events:
            guest.events = events
            self._epoll.modify(guest.socket, events)
