"""What each user of the host has under way at the dispatcher's socket, in all connections, and what is too much."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Generic, TypeVar

from qslurm.system.event_log import EventLog

log = EventLog(__name__)

_Guest = TypeVar("_Guest")

MOST_CONNECTIONS = 1024
"""Of one user at a time; a job step has one."""

UNREAD = 64 * 1024 * 1024
"""Bytes of messages that are not complete, of one user."""

UNSENT = 512 * 1024 * 1024
"""Bytes of answers that one user does not take."""


@dataclass(eq=False)
class User(Generic[_Guest]):
    """A user who is connected. `paused` are the connections that are not read from, until there is less under way.

    Who is `exempt` may have any number of connections, and of halves of messages.
    """

    uid: int
    exempt: bool
    connections: int = 0
    unread: int = 0
    unsent: int = 0
    paused: set[_Guest] = field(default_factory=set)
    warned: set[str] = field(default_factory=set)

    @property
    def has_too_many_connections(self) -> bool:
        """Whether there is no room for another one."""
        return self.connections >= MOST_CONNECTIONS and not self.exempt

    @property
    def has_too_much_unread(self) -> bool:
        """Whether nothing more is read before what has come is complete."""
        return self.unread > UNREAD and not self.exempt

    def may_leave_unsent(self, size: int) -> bool:
        """Whether so many bytes more may wait until they are taken."""
        return self.unsent + size <= UNSENT

    def warn(self, what: str) -> None:
        """Log once why they are disconnected; when all have left and come back, it is worth a word again."""
        if what not in self.warned:
            self.warned.add(what)
            log.warning("connection ended", uid=self.uid, why=what)
