"""Keeps any one user of the host from taking all connections to the dispatcher.

Everybody may connect (who may do what is decided by credential), and libzmq ends the whole process when it has no
descriptor left for the next connection (seen with 4.3: "Too many open files", ipc_listener.cpp). So this process may
have as many as the system allows, and no user more than its part.
"""

from __future__ import annotations

import errno
import resource
import socket
import struct
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING

from qslurm.eventlog import EventLog
from qslurm.logfmt import Field

if TYPE_CHECKING:
    import zmq

log = EventLog(__name__)

MOST_CONNECTIONS = 1024
"""Of one user at a time; a job step has one."""

_ENOUGH = 1 << 20  # some systems have no limit, and some programs go through all there could be
_PEER = struct.Struct("3i")  # struct ucred: pid, uid, gid (unix(7), SO_PEERCRED)


Owner = int | str


class Doorkeeper:
    """Hears of each connection that a listening socket accepts, and ends those that are too many.

    `owner_of` says whose a connection is: the uid of who is at the other end, or, with `address_of`, the host's
    address. Those who are `exempt` may have any number. Poll `ear`, and call `hear` when something is there.
    """

    def __init__(
        self,
        door: zmq.Socket[bytes],
        exempt: frozenset[int],
        *,
        most: int = MOST_CONNECTIONS,
        owner_of: Callable[[socket.socket], Owner | None] | None = None,
    ) -> None:
        import zmq

        self._door = door
        self._exempt = exempt
        self._most = most
        self._owner_of = owner_of or uid_of
        self._owners: dict[int, Owner] = {}  # by descriptor
        self._connections: Counter[Owner] = Counter()
        self._warned: set[Owner] = set()
        self._accepted = int(zmq.EVENT_ACCEPTED)
        self.ear = door.get_monitor_socket(zmq.EVENT_ACCEPTED | zmq.EVENT_DISCONNECTED)

    def connections(self, owner: Owner) -> int:
        """How many connections somebody has, as far as has been heard; 0 for who is exempt."""
        return self._connections[owner]

    def hear(self) -> None:
        """Take in what has happened at the door."""
        import zmq
        from zmq.utils.monitor import parse_monitor_message

        while True:
            try:
                event = parse_monitor_message(self.ear.recv_multipart(zmq.NOBLOCK))
            except zmq.Again:
                return
            self._forget(event["value"])  # a descriptor that comes again was closed before
            if event["event"] == self._accepted:
                self._admit(event["value"])

    def close(self) -> None:
        """Hear no more; before the door itself is closed."""
        self._door.disable_monitor()
        self.ear.close(linger=0)

    def _admit(self, descriptor: int) -> None:
        # By now the connection may be gone, and its number another's: so the judgement is on what has the number now.
        try:
            peer = socket.socket(fileno=_duplicate(descriptor))
        except OSError as error:
            log.debug("a connection was gone before it was looked at", why=str(error))
            return
        with peer:
            owner = self._owner_of(peer)
            if owner is None or owner in self._exempt:
                return
            self._owners[descriptor] = owner
            self._connections[owner] += 1
            if self._connections[owner] > self._most:
                if owner not in self._warned:
                    self._warned.add(owner)
                    whose: dict[str, Field] = (
                        {"uid": owner} if isinstance(owner, int) else {"address": str(owner)}
                    )
                    log.warning("too many connections of one; the others are ended", **whose, most=self._most)
                _end(peer)

    def _forget(self, descriptor: int) -> None:
        owner = self._owners.pop(descriptor, None)
        if owner is not None:
            self._connections[owner] -= 1
            if not self._connections[owner]:
                del self._connections[owner]
                self._warned.discard(owner)  # it is worth a word again


def allow_many_descriptors() -> None:
    """Let this process have as many descriptors as the system grants it."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, _ENOUGH), most))


def _duplicate(descriptor: int) -> int:
    import fcntl

    return fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 0)


def uid_of(peer: socket.socket) -> int | None:
    """The user at the other end of a Unix socket."""
    if peer.family != socket.AF_UNIX:
        return None
    _, uid, _ = _PEER.unpack(peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size))
    return int(uid)


def address_of(peer: socket.socket) -> str | None:
    """The address at the other end of a TCP connection."""
    if peer.family not in {socket.AF_INET, socket.AF_INET6}:
        return None  # the connection is gone, and its number another's
    try:
        return str(peer.getpeername()[0])
    except OSError:
        return None  # it is gone


def end_connection(descriptor: int) -> None:
    """End one of libzmq's TCP connections; it notices by itself."""
    try:
        peer = socket.socket(fileno=_duplicate(descriptor))
    except OSError as error:
        log.debug("the connection was gone", why=str(error))
        return
    with peer:
        if address_of(peer) is not None:
            _end(peer)


def _end(peer: socket.socket) -> None:
    try:
        peer.shutdown(socket.SHUT_RDWR)
    except OSError as error:
        if error.errno != errno.ENOTCONN:
            raise
