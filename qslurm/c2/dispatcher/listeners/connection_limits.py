"""Limits the TCP connections of each address to a ZeroMQ socket.

libzmq aborts the process when it has no descriptor left for the next connection (seen with 4.3: "Too many open files",
ipc_listener.cpp). So this process raises its own limit, and bounds the connections of each address.
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
"""For each address; a quantum runtime has one."""

_ENOUGH = 1 << 20  # where the system has no limit, programs may iterate over all possible descriptors


class ConnectionLimits:
    """Monitors the connections of a listening socket, and closes excess ones.

    Poll `monitor`, and call `process_events` when it is readable.
    """

    def __init__(self, listener: zmq.Socket[bytes], *, most: int = MOST_CONNECTIONS) -> None:
        import zmq

        self._listener = listener
        self._most = most
        self._owners: dict[int, str] = {}  # addresses, by descriptor
        self._connections: Counter[str] = Counter()
        self._warned: set[str] = set()
        self._accepted = int(zmq.EVENT_ACCEPTED)
        self.monitor = listener.get_monitor_socket(zmq.EVENT_ACCEPTED | zmq.EVENT_DISCONNECTED)

    def connections(self, owner: str) -> int:
        """How many connections an address has, by the events processed so far."""
        return self._connections[owner]

    def process_events(self) -> None:
        """Process all pending events."""
        import zmq
        from zmq.utils.monitor import parse_monitor_message

        while True:
            try:
                event = parse_monitor_message(self.monitor.recv_multipart(zmq.NOBLOCK))
            except zmq.Again:
                return
            self._forget(event["value"])  # a number that comes again was closed before
            if event["event"] == self._accepted:
                self._admit(event["value"])

    def close(self) -> None:
        """Stop monitoring; before the listening socket is closed."""
        self._listener.disable_monitor()
        self.monitor.close(linger=0)

    def _admit(self, descriptor: int) -> None:
        # The connection may be closed by now and its number reused: check whatever has the number now.
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
                self._warned.discard(owner)  # warn again next time


def allow_many_descriptors() -> None:
    """Raise this process's limit of descriptors as far as the system allows."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, _ENOUGH), most))


def _duplicate(descriptor: int) -> int:
    import fcntl

    return fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 0)


def address_of(peer: socket.socket) -> str | None:
    """The address of a TCP connection's peer; None if it is closed."""
    if peer.family not in {socket.AF_INET, socket.AF_INET6}:
        return None  # closed, and the number reused
    try:
        return str(peer.getpeername()[0])
    except OSError:
        return None  # closed


def end_connection(descriptor: int) -> None:
    """Shut down one of libzmq's TCP connections."""
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
