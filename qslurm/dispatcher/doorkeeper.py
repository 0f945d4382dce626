"""Keeps any one user of the host from taking all connections to the dispatcher.

Everybody may connect (who may do what is decided by credential), and libzmq ends the whole process when it has no
descriptor left for the next connection (seen with 4.3: "Too many open files", ipc_listener.cpp). So this process may
have as many as the system allows, and no user more than its part.
"""

from __future__ import annotations

import errno
import logging
import resource
import socket
import struct
from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import zmq

log = logging.getLogger(__name__)

MOST_CONNECTIONS = 1024
"""Of one user at a time; a job step has one."""

_ENOUGH = 1 << 20  # some systems have no limit, and some programs go through all there could be
_PEER = struct.Struct("3i")  # struct ucred: pid, uid, gid (unix(7), SO_PEERCRED)


class Doorkeeper:
    """Hears of each connection that a listening socket accepts, and ends those that are too many.

    `exempt` are the uids that may have any number. Poll `ear`, and call `hear` when something is there.
    """

    def __init__(
        self, door: zmq.Socket[bytes], exempt: frozenset[int], *, most: int = MOST_CONNECTIONS
    ) -> None:
        import zmq

        self._door = door
        self._exempt = exempt
        self._most = most
        self._owners: dict[int, int] = {}  # descriptor: uid
        self._connections: Counter[int] = Counter()
        self._warned: set[int] = set()
        self._accepted = int(zmq.EVENT_ACCEPTED)
        self.ear = door.get_monitor_socket(zmq.EVENT_ACCEPTED | zmq.EVENT_DISCONNECTED)

    def connections(self, uid: int) -> int:
        """How many connections a user has, as far as has been heard; 0 for who is exempt."""
        return self._connections[uid]

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
            log.debug("a connection was gone before it was looked at: %s", error)
            return
        with peer:
            uid = _uid(peer)
            if uid is None or uid in self._exempt:
                return
            self._owners[descriptor] = uid
            self._connections[uid] += 1
            if self._connections[uid] > self._most:
                if uid not in self._warned:
                    self._warned.add(uid)
                    log.warning("uid=%d has more than %d connections; the others are ended", uid, self._most)
                _end(peer)

    def _forget(self, descriptor: int) -> None:
        uid = self._owners.pop(descriptor, None)
        if uid is not None:
            self._connections[uid] -= 1
            if not self._connections[uid]:
                del self._connections[uid]
                self._warned.discard(uid)  # it is worth a word again


def allow_many_descriptors() -> None:
    """Let this process have as many descriptors as the system grants it."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, _ENOUGH), most))


def _duplicate(descriptor: int) -> int:
    import fcntl

    return fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 0)


def _uid(peer: socket.socket) -> int | None:
    if peer.family != socket.AF_UNIX:
        return None
    _, uid, _ = _PEER.unpack(peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size))
    return int(uid)


def _end(peer: socket.socket) -> None:
    try:
        peer.shutdown(socket.SHUT_RDWR)
    except OSError as error:
        if error.errno != errno.ENOTCONN:
            raise
