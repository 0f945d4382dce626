"""Limits on the agent's connections, memory and threads, per user and per host.

A local connection counts for its user, whom the kernel names. A TCP connection counts for its host until its first
request is authenticated; at the limit the oldest unauthenticated connection is closed, since clients send their
request at once. Not thread-safe: used in the event loop's thread only.
"""

from __future__ import annotations

import asyncio
import resource
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from weakref import WeakValueDictionary

from qslurm.c1.agent.user import User
from qslurm.errors import QslurmError
from qslurm.system.event_log import EventLog

log = EventLog(__name__)

MAX_CONNECTIONS = 4096
RESERVED_FILES = 256
"""File descriptors kept free for C2, the outbox and munged."""

MAX_PER_OWNER = 256
"""Maximum connections per user, or per host before authentication."""

MAX_UNAUTHENTICATED = 128
"""Maximum connections that have sent no request yet."""

SMALL_BYTES = 64 * 1024
"""Size in bytes up to which a request needs no memory reservation."""

MAX_LARGE = 4
"""Maximum concurrent large requests or responses per user, or per host before authentication."""

MAX_THREADS = 2
"""Maximum threads of a pool that one user may occupy."""


class TooManyConnectionsError(QslurmError):
    """A connection limit is reached."""

    kind = "too_many"


class ClientConnection:
    """A client's connection. `owner` is the user, or the host before authentication; `number` the request's."""

    def __init__(self, owner: str, writer: asyncio.StreamWriter, *, is_authenticated: bool) -> None:
        self.owner, self.writer, self.is_authenticated = owner, writer, is_authenticated
        self.number = 0
        self.user: User | None = None
        """The user of the last request."""

        self._memory: asyncio.Semaphore | None = None

    def release_memory(self) -> None:
        """Release the reserved memory, if any."""
        if self._memory is not None:
            self._memory.release()
            self._memory = None

    async def reserve_memory(self, semaphore: asyncio.Semaphore) -> None:
        """Wait for this semaphore, unless memory is reserved already."""
        if self._memory is None:
            await semaphore.acquire()
            self._memory = semaphore


class ClientConnections:
    """All connections and their limits."""

    def __init__(self, limit: int = MAX_CONNECTIONS) -> None:
        self._max = limit
        self._counts: Counter[str] = Counter()
        self._unauthenticated: dict[ClientConnection, None] = {}  # oldest first
        self._large: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()
        self._threads: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()
        self._warned: set[str] = set()

    def add(self, owner: str, writer: asyncio.StreamWriter, *, is_authenticated: bool) -> ClientConnection:
        """Add a connection; TooManyConnectionsError at the limit."""
        if not is_authenticated:
            unauthenticated = [
                connection for connection in self._unauthenticated if connection.owner == owner
            ]
            if len(unauthenticated) >= MAX_UNAUTHENTICATED:
                self._disconnect(unauthenticated[0])
        if self._counts.total() >= self._max and self._unauthenticated:
            self._disconnect(next(iter(self._unauthenticated)))
        connection = ClientConnection(owner, writer, is_authenticated=is_authenticated)
        self._insert(connection)
        return connection

    def authenticating(self, connection: ClientConnection) -> None:
        """A connection has sent its first request and is being authenticated."""
        self._unauthenticated.pop(connection, None)

    def authenticated_as(self, connection: ClientConnection, owner: str) -> None:
        """A connection is authenticated; TooManyConnectionsError at the user's limit."""
        if connection.is_authenticated and connection.owner == owner:
            return
        self._drop(connection)
        connection.owner, connection.is_authenticated = owner, True
        self._insert(connection)

    def remove(self, connection: ClientConnection) -> None:
        """Remove a closed connection, and release what it holds."""
        connection.release_memory()
        self._drop(connection)

    def _drop(self, connection: ClientConnection) -> None:
        if connection.owner:
            self._counts[connection.owner] -= 1
            if not self._counts[connection.owner]:
                del self._counts[connection.owner]
                self._warned.discard(connection.owner)
        self._unauthenticated.pop(connection, None)
        connection.owner = ""

    async def reserve_memory(self, connection: ClientConnection) -> None:
        """Wait until the owner may have another large request or response."""
        await connection.reserve_memory(_semaphore(self._large, connection.owner, MAX_LARGE))

    @asynccontextmanager
    async def thread(self, connection: ClientConnection, pool: str) -> AsyncIterator[None]:
        """Wait until the owner may occupy another thread of this pool."""
        async with _semaphore(self._threads, f"{pool} {connection.owner}", MAX_THREADS):
            yield

    def _insert(self, connection: ClientConnection) -> None:
        if self._counts.total() >= self._max or self._counts[connection.owner] >= MAX_PER_OWNER:
            owner, connection.owner = connection.owner, ""
            if owner not in self._warned:
                self._warned.add(owner)
                log.warning("too many connections", owner=owner, total=self._counts.total())
            raise TooManyConnectionsError("Too many connections to the center's agent.")
        self._counts[connection.owner] += 1
        if not connection.is_authenticated:
            self._unauthenticated[connection] = None

    def _disconnect(self, connection: ClientConnection) -> None:
        self.remove(connection)
        connection.writer.transport.abort()


def _semaphore(
    semaphores: WeakValueDictionary[str, asyncio.Semaphore], owner: str, limit: int
) -> asyncio.Semaphore:
    """The owner's semaphore, which exists while it is held or awaited."""
    found = semaphores.get(owner)
    if found is None:
        found = semaphores[owner] = asyncio.Semaphore(limit)
    return found


def max_connections() -> int:
    """The limit on connections that the limit on open files allows."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return (
        MAX_CONNECTIONS if files == resource.RLIM_INFINITY else min(MAX_CONNECTIONS, files - RESERVED_FILES)
    )
