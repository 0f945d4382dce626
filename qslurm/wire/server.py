"""Serves connections from somebody else's poll loop: one thread, nothing blocks.

Everything that others can make this process keep is counted and bounded: bytes, frames, requests, connections and
time, for each connection and for each owner of connections. Who has too much under way is not read from until it is
less; who breaks a rule is disconnected. Over a Unix socket the owner is the user at the other end. Over TLS nobody
knows who has come before `identify`, and until then little is taken from them (handshake_limits.py).
"""

from __future__ import annotations

import select
import socket
import ssl
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

from qslurm.system.event_log import EventLog
from qslurm.wire.accept import AcceptSocket
from qslurm.wire.connection import Address, Connection
from qslurm.wire.frames import NO_REQUEST, FrameError, FrameReader, frame
from qslurm.wire.handshake_limits import STRANGERS_BYTES, HandshakeLimits
from qslurm.wire.limits import Limits, Owner
from qslurm.wire.peer import Peer
from qslurm.wire.send_buffer import SendBuffer
from qslurm.wire.tls import ServerTls

log = EventLog(__name__)

HELLO_LIMIT = 256
"""Bytes of a body from somebody of whom nobody knows yet who it is."""

_READ = 256 * 1024
_AT_ONCE = 16  # frames of one owner in one round
_DEAD_MS = 10_000  # what a TCP peer does not acknowledge for so long ends its connection


class Server:
    """Poll `fileno`, and `receive` when something is there or `waiting` is true; `check` from time to time.

    Users (uids) who are `exempt` are bounded at each connection only. With `tls`, or if it `has_strangers`, connections
    are strangers' until they are identified. `gone` is called with a connection that has ended. Times are the clock's
    seconds.
    """

    def __init__(
        self,
        limits: Limits,
        *,
        exempt: frozenset[int] = frozenset(),
        tls: ssl.SSLContext | None = None,
        has_strangers: bool = False,
        gone: Callable[[Connection], None] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._limits = limits
        self._exempt = exempt
        self._tls = tls
        self._has_strangers = has_strangers or tls is not None
        self._gone = gone
        self._clock = clock
        self._listener: AcceptSocket | None = None
        self._connections: dict[int, Connection] = {}  # by descriptor
        self._owners: dict[object, Owner[Connection]] = {}
        self._strangers: HandshakeLimits[Connection] = HandshakeLimits(clock)
        self._buffered: dict[Connection, None] = {}  # may have a whole frame, in order
        self._unfinished: set[Connection] = set()
        self._epoll = select.epoll()

    def fileno(self) -> int:
        """What to poll."""
        return self._epoll.fileno()

    def listen(self, listening: socket.socket) -> None:
        """Take connections of this socket, which is closed with the server."""
        listening.setblocking(False)
        self._listener = AcceptSocket(listening, self._epoll, self._clock)

    @property
    def waiting(self) -> bool:
        """Whether there is something to take that `fileno` does not tell of."""
        return bool(self._buffered)

    def receive(self, most: int) -> Iterator[tuple[Address, bytes]]:
        """Bodies that have come, each with the address of its answer.

        One of each connection at a time, so that nobody has to wait for somebody else's many.
        """
        for descriptor, events in self._epoll.poll(0):
            if self._listener is not None and descriptor == self._listener.descriptor:
                for taken, address in self._listener.come():
                    self._welcome(taken, address)
                continue
            connection = self._connections.get(descriptor)
            if connection is not None and events & select.EPOLLOUT:
                self._send(connection)
            if connection is not None and events & ~select.EPOLLOUT and not connection.is_gone:
                self._read(connection)
        taken_of: Counter[object] = Counter()
        for connection in list(self._buffered):
            if most <= 0:
                return
            if connection not in self._buffered:
                continue
            owner = connection.owner
            if owner is not None and taken_of[owner.name] >= _AT_ONCE and not owner.exempt:
                continue
            found = self._take(connection)
            if found is not None:
                if owner is not None:
                    taken_of[owner.name] += 1
                most -= 1
                yield Address(connection, found[0]), found[1]

    def send(self, address: Address, body: bytes, *, final: bool = True) -> None:
        """Answer, if the connection is still there; what is not `final` leaves the request open."""
        connection, number = address
        if connection.is_gone:
            return
        if final and number != NO_REQUEST:
            connection.unanswered = max(0, connection.unanswered - 1)
        data = frame(number, body)
        self._send(connection, data if connection.tls is None else connection.tls.encrypt(data))

    def run_callbacks(self, connection: Connection, body: bytes, descriptors: Sequence[int]) -> bool:
        """Send a frame with descriptors over a Unix socket; False if it is not taken at once, and it has been ended."""
        data = frame(NO_REQUEST, body)
        try:
            if not connection.unsent and socket.send_fds(connection.socket, [data], descriptors) == len(data):
                return True
        except OSError as error:
            log.debug("descriptors are not taken", why=str(error))
        self.end(connection)
        return False

    def identify(self, connection: Connection, name: object) -> bool:
        """It is known now whose connection that is; False if they have too many, and it has been ended."""
        self._strangers.remove(connection)
        return connection.owner is not None or self._belongs(connection, name)

    def check(self, now: float) -> float:
        """End what takes too long; the answer is when to check again."""
        for connection in self._strangers.overdue(now):
            self.end(connection, "does not show who it is")
        while (patient := self._strangers.next_patient()) is not None:
            self._watch(patient)
        least = self._limits.unfinished_s
        begun = [(one.since, one) for one in self._unfinished if one.since is not None]
        for since, connection in begun:
            if now - since > least:
                self.end(connection, "timeout")
        first = min((since for since, one in begun if not one.is_gone), default=float("inf"))
        again = float("inf") if self._listener is None else self._listener.look(now)
        return min(first + least, again, self._strangers.next_event(now))

    def end(self, connection: Connection, why: str = "") -> None:
        """Disconnect; what was sent is sent as far as it is taken at once."""
        if connection.is_gone:
            return
        owner = connection.owner
        if why and owner is not None:
            owner.warn(why)
        elif why:
            log.debug("connection ended", address=connection.host, why=why)
        del self._connections[connection.socket.fileno()]
        self._buffered.pop(connection, None)
        self._unfinished.discard(connection)
        self._strangers.remove(connection)
        if owner is not None:
            owner.paused.discard(connection)
            self._count(connection, 0)
            owner.unsent -= connection.unsent_counted
            self._forsake(owner)
        self._epoll.unregister(connection.socket)
        if connection.peer is not None:
            connection.peer.close()
        connection.socket.close()
        self._gone(connection)

    def close(self) -> None:
        """Take nothing more; what has been answered is sent as far as it is taken at once."""
        for connection in list(self._connections.values()):
            self.end(connection)
        self._epoll.close()
        if self._listener is not None:
            self._listener.close()

    # --- who comes -----------------------------------------------------------------------------------

    def welcome(self, taken: socket.socket, *, hurried: bool = True) -> None:
        """Take what comes over this connection to a Unix socket; who is `hurried` has to say something soon."""
        connection = self._made(taken, limit=self._limits.body)
        peer = connection.peer = Peer(taken)
        if self._belongs(connection, peer.uid) and hurried:
            connection.since = self._clock()
            self._unfinished.add(connection)

    def _welcome(self, taken: socket.socket, address: tuple[str, int] | str) -> None:
        if not self._has_strangers:
            self.welcome(taken)
            return
        connection = self._made(taken, limit=HELLO_LIMIT)
        if taken.family == socket.AF_UNIX:
            connection.peer = Peer(taken)
            connection.host = f"uid {connection.peer.uid}"
        else:
            taken.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            taken.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _DEAD_MS)
            connection.host = address[0]
        if self._tls is not None:
            connection.tls = ServerTls(self._tls)
        while (oldest := self._strangers.in_the_way(connection.host)) is not None:
            self.end(oldest, "gives way: there are too many strangers")
        self._strangers.add(connection)

    def _made(self, taken: socket.socket, limit: int) -> Connection:
        taken.setblocking(False)
        connection = Connection(taken, FrameReader(limit), SendBuffer(taken), None)
        self._connections[taken.fileno()] = connection
        self._epoll.register(taken, connection.events)
        return connection

    def _belongs(self, connection: Connection, name: object) -> bool:
        owner = self._owners.get(name)
        if owner is None:
            owner = self._owners[name] = Owner(name, self._limits, exempt=name in self._exempt)
        if owner.has_too_many_connections:
            owner.warn(f"more than {self._limits.connections} connections")
            self.end(connection)
            return False
        owner.connections += 1
        connection.owner = owner
        connection.frames.limit = self._limits.body
        self._count(connection, len(connection.frames))
        return True

    def _forsake(self, owner: Owner[Connection]) -> None:
        owner.connections -= 1
        if not owner.connections:
            del self._owners[owner.name]

    # --- what comes ----------------------------------------------------------------------------------

    def _read(self, connection: Connection) -> None:
        is_stranger = connection.owner is None
        if connection.owner is not None and connection.owner.has_too_much_unread:
            self._watch(connection)
            return
        if is_stranger and connection.tls is not None and not self._strangers.may_compute(connection):
            self._watch(connection)
            return
        try:
            data = connection.socket.recv(_READ)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.end(connection)
            return
        if connection.tls is not None:
            try:
                data, answer = connection.tls.decrypt(data)
            except ssl.SSLError as error:
                self.end(connection, f"TLS: {error.reason}")
                return
            if is_stranger and connection.tls.came > STRANGERS_BYTES:
                self.end(connection, "too much data before authentication")
                return
            self._send(connection, answer)
        if data and not connection.is_gone:
            connection.frames.feed(data)
            self._count(connection, len(connection.frames))
            self._buffered[connection] = None
            self._watch(connection)

    def _take(self, connection: Connection) -> tuple[int, bytes] | None:
        """The next frame of a connection that may have one."""
        del self._buffered[connection]
        if not connection.may_speak:
            self._watch(connection)  # it comes again when it may
            return None
        try:
            found = connection.frames.take()
        except FrameError as error:
            self.end(connection, str(error))
            return None
        if found is not None and connection.owner is not None and found[0] == NO_REQUEST:
            self.end(connection, "sends a frame that is no request")
            return None
        if found is not None:
            connection.unanswered += connection.owner is not None
            connection.since = None
            if len(connection.frames):
                self._buffered[connection] = None  # behind the others
        if found is not None and not len(connection.frames):
            self._unfinished.discard(connection)
        elif connection.since is None:
            connection.since = self._clock()
            self._unfinished.add(connection)
        self._count(connection, len(connection.frames))
        return found

    def _count(self, connection: Connection, unread: int) -> None:
        """So much of what it has sent is not complete; others of the same owner may go on when that is less."""
        owner = connection.owner
        if owner is None:
            return
        owner.unread += unread - connection.unread
        connection.unread = unread
        if not owner.has_too_much_unread:
            for one in list(owner.paused):
                self._watch(one)

    # --- what goes -----------------------------------------------------------------------------------

    def _send(self, connection: Connection, data: bytes = b"") -> None:
        """Send this, and what is there from before."""
        unsent, owner = connection.unsent, connection.owner
        if data and unsent and owner is not None and not owner.may_leave_unsent(len(data)):
            self.end(connection, "send buffer full")
            return
        try:
            if data:
                unsent.send(data)
            else:
                unsent.flush()
        except OSError:
            self.end(connection)
            return
        if owner is not None:
            owner.unsent += unsent.size - connection.unsent_counted
            connection.unsent_counted = unsent.size
        if connection.may_speak and len(connection.frames):
            self._buffered[connection] = None
        self._watch(connection)

    def _watch(self, connection: Connection) -> None:
        """Read from whom we want to hear, write to whom there is something to say."""
        if connection.is_gone:
            return
        owner = connection.owner
        has_room = owner is None or not owner.has_too_much_unread
        if owner is not None and not has_room:
            owner.paused.add(connection)
        elif owner is not None:
            owner.paused.discard(connection)
        reads = has_room and connection.may_speak and not self._strangers.is_patient(connection)
        events = (select.EPOLLIN if reads else 0) | (select.EPOLLOUT if connection.unsent else 0)
        if events != connection.events:
            connection.events = events
            self._epoll.modify(connection.socket, events)
