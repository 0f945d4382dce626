"""What each owner of connections to a server may have under way, in all of them, and what is too much."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Generic, TypeVar

from qslurm.system.event_log import EventLog

log = EventLog(__name__)

_Connection = TypeVar("_Connection")


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Of one owner: `connections` at a time, `unread` bytes of frames that are not complete, `unsent` bytes of answers
    that are not taken. Of one connection: bytes of a frame's `body`, and `unanswered` requests.

    What has begun, a first frame or a later one, has to be complete after `unfinished_s`.
    """

    body: int
    connections: int = 1024
    unread: int = 64 * 1024 * 1024
    unsent: int = 512 * 1024 * 1024
    unanswered: int = 64
    unfinished_s: float = 10.0


@dataclass(eq=False)
class Owner(Generic[_Connection]):
    """A user, or whoever else connections belong to. `paused` are those that are not read from until less is unread.

    Who is `exempt` may have any number of connections, and of halves of frames.
    """

    name: object
    limits: Limits
    exempt: bool = False
    connections: int = 0
    unread: int = 0
    unsent: int = 0
    paused: set[_Connection] = field(default_factory=set)
    warned: set[str] = field(default_factory=set)

    @property
    def has_too_many_connections(self) -> bool:
        """Whether there is no room for another one."""
        return self.connections >= self.limits.connections and not self.exempt

    @property
    def has_too_much_unread(self) -> bool:
        """Whether nothing more is read before what has come is complete."""
        return self.unread > self.limits.unread and not self.exempt

    def may_leave_unsent(self, size: int) -> bool:
        """Whether so many bytes more may wait until they are taken."""
        return self.unsent + size <= self.limits.unsent

    def warn(self, what: str) -> None:
        """Log once why they are disconnected; when all have left and come back, it is worth a word again."""
        if what not in self.warned:
            self.warned.add(what)
            log.warning("connection ended", owner=str(self.name), why=what)
