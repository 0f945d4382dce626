"""Limits on the agent's connections, memory and threads, per user and per host.

On the agent's host the kernel says at once who a connection is. From a compute node nobody knows before the first
question, so those that have said nothing count for their host, and the oldest of them gives way to the newest: who
means to ask does so at once. All of this is in the event loop's thread.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from weakref import WeakValueDictionary

from qslurm.errors import QslurmError
from qslurm.system.event_log import EventLog

log = EventLog(__name__)

MOST_CONNECTIONS = 4096
MOST_OF_ONE = 256
"""Maximum connections per user, or per host before authentication."""

MOST_SILENT = 128
"""Maximum connections that have sent no request yet."""

SMALL = 64 * 1024
"""Size in bytes up to which a request needs no memory share."""

LARGE_AT_ONCE = 4
"""Concurrent large requests or answers per user, or per host before authentication."""

TURNS = 2
"""Threads of a kind that one user may occupy."""


class TooManyError(QslurmError):
    """A limit of connections is reached."""

    kind = "too_many"


class Connection:
    """A connection. `whose` is the user, or the host before authentication."""

    def __init__(self, whose: str, writer: asyncio.StreamWriter, *, is_known: bool) -> None:
        self.whose, self.writer, self.is_known = whose, writer, is_known
        self.number = 0
        self.large: asyncio.Semaphore | None = None

    def is_done(self) -> None:
        """Release its share of memory."""
        if self.large is not None:
            self.large.release()
            self.large = None


class Connections:
    """All connections."""

    def __init__(self, most: int = MOST_CONNECTIONS) -> None:
        self._most = most
        self._count: Counter[str] = Counter()
        self._silent: dict[Connection, None] = {}  # in the order in which they came
        self._large: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()
        self._turns: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()
        self._warned: set[str] = set()

    def enter(self, whose: str, writer: asyncio.StreamWriter, *, is_known: bool) -> Connection:
        """Add a connection; TooManyError at the limit."""
        if not is_known:
            silent = [guest for guest in self._silent if guest.whose == whose]
            if len(silent) >= MOST_SILENT:
                self._send_away(silent[0])
        if self._count.total() >= self._most and self._silent:
            self._send_away(next(iter(self._silent)))
        guest = Connection(whose, writer, is_known=is_known)
        self._add(guest)
        return guest

    def has_asked(self, guest: Connection) -> None:
        """A connection has sent its first request and is being authenticated."""
        self._silent.pop(guest, None)

    def known_as(self, guest: Connection, whose: str) -> None:
        """A connection is authenticated; TooManyError at the user's limit."""
        if guest.is_known and guest.whose == whose:
            return
        self._drop(guest)
        guest.whose, guest.is_known = whose, True
        self._add(guest)

    def leave(self, guest: Connection) -> None:
        """Remove a connection."""
        guest.is_done()
        self._drop(guest)

    def _drop(self, guest: Connection) -> None:
        if guest.whose:
            self._count[guest.whose] -= 1
            if not self._count[guest.whose]:
                del self._count[guest.whose]
                self._warned.discard(guest.whose)
        self._silent.pop(guest, None)
        guest.whose = ""

    async def large(self, guest: Connection) -> None:
        """Wait for a memory share for a large request or answer; released by `is_done`."""
        if guest.large is None:
            room = _of(self._large, guest.whose, LARGE_AT_ONCE)
            await room.acquire()
            guest.large = room

    @asynccontextmanager
    async def turn(self, guest: Connection, kind: str) -> AsyncIterator[None]:
        """Wait for a thread of this kind, shared fairly among users."""
        async with _of(self._turns, f"{kind} {guest.whose}", TURNS):
            yield

    def _add(self, guest: Connection) -> None:
        if self._count.total() >= self._most or self._count[guest.whose] >= MOST_OF_ONE:
            whose, guest.whose = guest.whose, ""
            if whose not in self._warned:
                self._warned.add(whose)
                log.warning("too many connections", whose=whose, of_all=self._count.total())
            raise TooManyError("Too many connections to the center's agent.")
        self._count[guest.whose] += 1
        if not guest.is_known:
            self._silent[guest] = None

    def _send_away(self, guest: Connection) -> None:
        self.leave(guest)
        guest.writer.transport.abort()


def _of(known: WeakValueDictionary[str, asyncio.Semaphore], whose: str, most: int) -> asyncio.Semaphore:
    """A user's semaphore, kept while someone holds or awaits it."""
    found = known.get(whose)
    if found is None:
        found = known[whose] = asyncio.Semaphore(most)
    return found
