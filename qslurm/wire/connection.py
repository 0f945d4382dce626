"""A connection to a server, and the address of a reply."""

from __future__ import annotations

import select
import socket
from dataclasses import dataclass
from typing import NamedTuple

from qslurm.wire.frames import NO_REQUEST, FrameReader
from qslurm.wire.peer import Peer
from qslurm.wire.send_buffer import SendBuffer
from qslurm.wire.server_limits import Owner
from qslurm.wire.tls import ServerTls


@dataclass(eq=False)
class Connection:
    """A connection to a server. `owner` is None until it has authenticated; `peer` is the process at the other end of a
    Unix socket, `host` the address of its peer.

    `unfinished_since` is when its incomplete frame was begun. `unread` and `unsent_counted` are its part of its owner's
    sums.
    """

    socket: socket.socket
    frames: FrameReader
    unsent: SendBuffer
    owner: Owner[Connection] | None
    peer: Peer | None = None
    host: str = ""
    tls: ServerTls | None = None
    unfinished_since: float | None = None
    unread: int = 0
    unsent_counted: int = 0
    unanswered: int = 0
    events: int = select.EPOLLIN

    @property
    def is_closed(self) -> bool:
        """Whether it has been closed."""
        return self.socket.fileno() < 0

    @property
    def may_request(self) -> bool:
        """Whether another request is read from it."""
        return not self.unsent and (self.owner is None or self.unanswered < self.owner.limits.unanswered)


class Address(NamedTuple):
    """Where a reply goes: a connection, and the number of its request (not 0 once the connection has an owner)."""

    connection: Connection
    number: int = NO_REQUEST
