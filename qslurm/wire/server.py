"""A server for one thread with a poll loop. No call blocks.

Everything that peers can make this process keep is bounded (server_limits.py): bytes, frames, requests, connections and
time, per connection and per owner. A connection whose owner has too much unfinished is not read until that is less; one
that violates the protocol is closed. Over a Unix socket the owner is the user at the other end. Over TLS a connection
has no owner until `identify`.
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
from qslurm.wire.peer import Peer
from qslurm.wire.send_buffer import SendBuffer
from qslurm.wire.server_limits import Owner, PendingHandshakes, ServerLimits
from qslurm.wire.tls import ServerTls

log = EventLog(__name__)

_READ = 256 * 1024
_MOST_PER_ROUND = 16  # frames of one owner
_TCP_USER_TIMEOUT_MS = 10_000


class Server:
    """Poll `fileno`; call `receive` when it is readable or `has_buffered` is true, and `check` when that asks for it.

    Limits per owner do not hold for `exempt` uids. With `tls`, connections have no owner until the caller has read
    their hello and calls `identify`. `on_close` is called with each connection that was closed. Times
    are the clock's seconds.
    """

    def __init__(
        self,
        limits: ServerLimits,
        *,
        exempt: frozenset[int] = frozenset(),
        tls: ssl.SSLContext | None = None,
        on_close: Callable[[Connection], None] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._limits = limits
        self._exempt = exempt
        self._tls = tls
        self._on_close = on_close
        self._clock = clock
        self._listener: AcceptSocket | None = None
        self._connections: dict[int, Connection] = {}  # by descriptor
        self._owners: dict[object, Owner[Connection]] = {}
        self._pending: PendingHandshakes[Connection] = PendingHandshakes(limits.handshake, clock)
        self._buffered: dict[Connection, None] = {}  # may have a whole frame, in order
        self._unfinished: set[Connection] = set()
        self._epoll = select.epoll()

    def fileno(self) -> int:
        """What to poll."""
        return self._epoll.fileno()

    def listen(self, listening: socket.socket) -> None:
        """Accept connections on this socket, which `close` closes."""
        listening.setblocking(False)
        self._listener = AcceptSocket(listening, self._epoll, self._clock)

    @property
    def has_buffered(self) -> bool:
        """Whether a whole frame may be buffered, which polling does not show."""
        return bool(self._buffered)

    def receive(self, most: int) -> Iterator[tuple[Address, bytes]]:
        """At most `most` bodies, each with the address for its reply, one of each connection in turn."""
        for descriptor, events in self._epoll.poll(0):
            if self._listener is not None and descriptor == self._listener.descriptor:
                for accepted, address in self._listener.accept():
                    self._accept(accepted, address)
                continue
            connection = self._connections.get(descriptor)
            if connection is not None and events & select.EPOLLOUT:
                self._send(connection)
            if connection is not None and events & ~select.EPOLLOUT and not connection.is_closed:
                self._read(connection)
        taken_of: Counter[object] = Counter()
        for connection in list(self._buffered):
            if most <= 0:
                return
            if connection not in self._buffered:
                continue
            owner = connection.owner
            if owner is not None and taken_of[owner.name] >= _MOST_PER_ROUND and not owner.exempt:
                continue
            found = self._take(connection)
            if found is not None:
                if owner is not None:
                    taken_of[owner.name] += 1
                most -= 1
                yield Address(connection, found[0]), found[1]

    def send(self, address: Address, body: bytes, *, final: bool = True) -> None:
        """Reply, if the connection is open. After a reply that is not `final` the request stays unanswered."""
        connection, number = address
        if connection.is_closed:
            return
        if final and number != NO_REQUEST:
            connection.unanswered = max(0, connection.unanswered - 1)
        data = frame(number, body)
        self._send(connection, data if connection.tls is None else connection.tls.encrypt(data))

    def send_descriptors(self, connection: Connection, descriptors: Sequence[int]) -> bool:
        """Send descriptors with an empty frame over a Unix socket. Returns False if they can't be sent at once."""
        if connection.is_closed or connection.unsent:
            return False
        data = frame(NO_REQUEST, b"")
        try:
            sent = socket.send_fds(connection.socket, [data], descriptors)
        except OSError as error:
            log.debug("cannot send descriptors", why=str(error))
            return False
        if sent < len(data):
            self.end(connection, "send buffer full")
        return sent == len(data)

    def identify(self, connection: Connection, name: object) -> bool:
        """Set the owner of a connection. Closes it and returns False if the owner has too many."""
        self._pending.remove(connection)
        return connection.owner is not None or self._set_owner(connection, name)

    def check(self, now: float) -> float:
        """Close connections whose time is over. Returns when to call this next."""
        for connection in self._pending.expired(now):
            self.end(connection, "authentication timeout")
        while (resumed := self._pending.resume()) is not None:
            self._watch(resumed)
        timeout_s = self._limits.unfinished_s
        begun = [(one.unfinished_since, one) for one in self._unfinished if one.unfinished_since is not None]
        for since, connection in begun:
            if now - since > timeout_s:
                self.end(connection, "timeout")
        first = min((since for since, one in begun if not one.is_closed), default=float("inf"))
        resume_at = float("inf") if self._listener is None else self._listener.resume(now)
        return min(first + timeout_s, resume_at, self._pending.next_check(now))

    def end(self, connection: Connection, why: str = "") -> None:
        """Close a connection, and log `why`. Unsent bytes are dropped."""
        if connection.is_closed:
            return
        owner = connection.owner
        if why and owner is not None:
            owner.warn(why)
        elif why:
            log.debug("connection closed", address=connection.host, why=why)
        del self._connections[connection.socket.fileno()]
        self._buffered.pop(connection, None)
        self._unfinished.discard(connection)
        self._pending.remove(connection)
        if owner is not None:
            owner.paused.discard(connection)
            self._count(connection, 0)
            owner.unsent -= connection.unsent_counted
            self._release(owner)
        self._epoll.unregister(connection.socket)
        if connection.peer is not None:
            connection.peer.close()
        connection.socket.close()
        self._on_close(connection)

    def close(self) -> None:
        """Close the listening socket and all connections."""
        for connection in list(self._connections.values()):
            self.end(connection)
        self._epoll.close()
        if self._listener is not None:
            self._listener.close()

    # --- new connections -----------------------------------------------------------------------------

    def add(self, accepted: socket.socket, *, may_be_silent: bool = False) -> None:
        """Serve a connected Unix socket. Unless it `may_be_silent`, its first frame has a timeout."""
        connection = self._register(accepted, limit=self._limits.body)
        peer = connection.peer = Peer(accepted)
        if self._set_owner(connection, peer.uid) and not may_be_silent:
            connection.unfinished_since = self._clock()
            self._unfinished.add(connection)

    def _accept(self, accepted: socket.socket, address: tuple[str, int] | str) -> None:
        if self._tls is None:
            self.add(accepted)
            return
        connection = self._register(accepted, limit=self._limits.handshake.body)
        accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _TCP_USER_TIMEOUT_MS)
        connection.host = address[0]
        connection.tls = ServerTls(self._tls)
        while (oldest := self._pending.to_evict(connection.host)) is not None:
            self.end(oldest, "too many unauthenticated connections")
        self._pending.add(connection)

    def _register(self, accepted: socket.socket, limit: int) -> Connection:
        accepted.setblocking(False)
        connection = Connection(accepted, FrameReader(limit), SendBuffer(accepted), None)
        self._connections[accepted.fileno()] = connection
        self._epoll.register(accepted, connection.events)
        return connection

    def _set_owner(self, connection: Connection, name: object) -> bool:
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

    def _release(self, owner: Owner[Connection]) -> None:
        owner.connections -= 1
        if not owner.connections:
            del self._owners[owner.name]

    # --- receiving -----------------------------------------------------------------------------------

    def _read(self, connection: Connection) -> None:
        is_pending = connection.owner is None
        if connection.owner is not None and connection.owner.has_too_much_unread:
            self._watch(connection)
            return
        if is_pending and connection.tls is not None and not self._pending.may_continue(connection):
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
            if is_pending and connection.tls.received > self._limits.handshake.received:
                self.end(connection, "too much data before authentication")
                return
            self._send(connection, answer)
        if data and not connection.is_closed:
            connection.frames.feed(data)
            self._count(connection, len(connection.frames))
            self._buffered[connection] = None
            self._watch(connection)

    def _take(self, connection: Connection) -> tuple[int, bytes] | None:
        """The next frame of a buffered connection; None if it is not complete."""
        del self._buffered[connection]
        if not connection.may_request:
            self._watch(connection)  # `_send` buffers it again
            return None
        try:
            found = connection.frames.take()
        except FrameError as error:
            self.end(connection, str(error))
            return None
        if found is not None and connection.owner is not None and found[0] == NO_REQUEST:
            self.end(connection, "frame without a request number")
            return None
        if found is not None:
            connection.unanswered += connection.owner is not None
            connection.unfinished_since = None
            if len(connection.frames):
                self._buffered[connection] = None  # after the other connections
        if found is not None and not len(connection.frames):
            self._unfinished.discard(connection)
        elif connection.unfinished_since is None:
            connection.unfinished_since = self._clock()
            self._unfinished.add(connection)
        self._count(connection, len(connection.frames))
        return found

    def _count(self, connection: Connection, unread: int) -> None:
        """Set how many bytes of a connection are unread, and resume its owner's paused connections if that is few."""
        owner = connection.owner
        if owner is None:
            return
        owner.unread += unread - connection.unread
        connection.unread = unread
        if not owner.has_too_much_unread:
            for one in list(owner.paused):
                self._watch(one)

    # --- sending -------------------------------------------------------------------------------------

    def _send(self, connection: Connection, data: bytes = b"") -> None:
        """Send `data`, after what is unsent."""
        unsent, owner = connection.unsent, connection.owner
        if data and unsent and owner is not None and not owner.may_buffer(len(data)):
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
        if connection.may_request and len(connection.frames):
            self._buffered[connection] = None
        self._watch(connection)

    def _watch(self, connection: Connection) -> None:
        """Tell epoll whether to read from a connection and whether to write to it."""
        if connection.is_closed:
            return
        owner = connection.owner
        has_room = owner is None or not owner.has_too_much_unread
        if owner is not None and not has_room:
            owner.paused.add(connection)
        elif owner is not None:
            owner.paused.discard(connection)
        reads = has_room and connection.may_request and not self._pending.is_paused(connection)
        events = (select.EPOLLIN if reads else 0) | (select.EPOLLOUT if connection.unsent else 0)
        if events != connection.events:
            connection.events = events
            self._epoll.modify(connection.socket, events)
