"""Keeps any one host from taking all TCP connections to the dispatcher.

libzmq ends the whole process when it has no descriptor left for the next connection (seen with 4.3: "Too many open
files", ipc_listener.cpp). So this process may have as many as the system allows, and no host more than its part.
"""

from __future__ import annotations

import errno
import resource
import socket
from collections import Counter
from typing import TYPE_CHECKING

from qslurm.system.event_log import EventLog

if TYPE_CHECKING:
    import zmq

log = EventLog(__name__)

MOST_CONNECTIONS = 16
"""Of one address at a time; a quantum runtime has one."""

_ENOUGH = 1 << 20  # some systems have no limit, and some programs go through all there could be


class ConnectionLimits:
    """Hears of each connection that a listening socket accepts, and ends those that are too many.

    Poll `ear`, and call `hear` when something is there.
    """

    def __init__(self, door: zmq.Socket[bytes], *, most: int = MOST_CONNECTIONS) -> None:
        import zmq

        self._door = door
        self._most = most
        self._owners: dict[int, str] = {}  # addresses, by descriptor
        self._connections: Counter[str] = Counter()
        self._warned: set[str] = set()
        self._accepted = int(zmq.EVENT_ACCEPTED)
        self.ear = door.get_monitor_socket(zmq.EVENT_ACCEPTED | zmq.EVENT_DISCONNECTED)

    def connections(self, owner: str) -> int:
        """How many connections an address has, as far as has been heard."""
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
            log.debug("connection closed before it was checked", why=str(error))
            return
        with peer:
            owner = address_of(peer)
            if owner is None:
                return
            self._owners[descriptor] = owner
            self._connections[owner] += 1
            if self._connections[owner] > self._most:
                if owner not in self._warned:
                    self._warned.add(owner)
                    log.warning(
                        "too many connections from one address; closing the excess",
                        address=owner,
                        most=self._most,
                    )
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
        log.debug("connection already closed", why=str(error))
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
