"""One connection to a server, and where an answer goes."""

from __future__ import annotations

import select
import socket
from dataclasses import dataclass
from typing import NamedTuple

from qslurm.wire.frames import NO_REQUEST, FrameReader
from qslurm.wire.limits import Owner
from qslurm.wire.peer import Peer
from qslurm.wire.send_buffer import SendBuffer
from qslurm.wire.tls import ServerTls


@dataclass(eq=False)
class Connection:
    """A connection to a server. `owner` is None while nobody knows whose it is; `peer` is the process at the other end
    of a Unix socket, `host` where it comes from.

    `since` is when what is not finished was begun, None while everything is. `unread` and `unsent_counted` are the
    bytes of it that are counted with its owner's.
    """

    socket: socket.socket
    frames: FrameReader
    unsent: SendBuffer
    owner: Owner[Connection] | None
    peer: Peer | None = None
    host: str = ""
    tls: ServerTls | None = None
    since: float | None = None
    unread: int = 0
    unsent_counted: int = 0
    unanswered: int = 0
    events: int = select.EPOLLIN

    @property
    def is_gone(self) -> bool:
        """Whether it has ended."""
        return self.socket.fileno() < 0

    @property
    def may_speak(self) -> bool:
        """Whether another request is taken from it."""
        return not self.unsent and (self.owner is None or self.unanswered < self.owner.limits.unanswered)


class Address(NamedTuple):
    """Where an answer goes. Over Unix sockets and once a connection is identified, every request has a number but 0."""

    connection: Connection
    number: int = NO_REQUEST
