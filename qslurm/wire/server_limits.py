"""What a server's peers may use of it, before and after they have authenticated."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from ipaddress import IPv6Network
from typing import Generic, Protocol, TypeVar

from qslurm.system.event_log import EventLog

log = EventLog(__name__)

_PAUSE_CHECK_S = 0.02  # how often paused handshakes are checked


@dataclass(frozen=True, kw_only=True)
class HandshakeLimits:
    """For connections that have not authenticated.

    `connections` in all, `per_network` of them from one IPv4 address, IPv6 /64 network or local user. Each has
    `timeout_s` and `received` bytes for its TLS handshake and hello; a hello has at most `body` bytes. The server
    computes `steps_per_s` steps of TLS handshakes, each of some 0.1 ms; more than that wait.
    """

    connections: int = 256
    per_network: int = 16
    timeout_s: float = 5.0
    received: int = 16 * 1024
    body: int = 256
    steps_per_s: int = 200


@dataclass(frozen=True, kw_only=True)
class ServerLimits:
    """Per owner: `connections` at a time, `unread` bytes of incomplete frames, `unsent` bytes of replies.

    Per connection: bytes of a frame's `body`, and `unanswered` requests. A first frame, or one that was begun, must be
    complete after `unfinished_s`. `handshake` holds before a connection has an owner.
    """

    body: int
    connections: int = 1024
    unread: int = 64 * 1024 * 1024
    unsent: int = 512 * 1024 * 1024
    unanswered: int = 64
    unfinished_s: float = 10.0
    handshake: HandshakeLimits = field(default_factory=HandshakeLimits)


_Connection = TypeVar("_Connection")


@dataclass(eq=False)
class Owner(Generic[_Connection]):
    """A user, or a session, that connections belong to, with the sums over its connections.

    `paused` connections are not read until fewer bytes are unread. An `exempt` owner may have any number of connections
    and of unread bytes.
    """

    name: object
    limits: ServerLimits
    exempt: bool = False
    connections: int = 0
    unread: int = 0
    unsent: int = 0
    paused: set[_Connection] = field(default_factory=set)
    warned: set[str] = field(default_factory=set)

    @property
    def has_too_many_connections(self) -> bool:
        """Whether another connection would exceed the limit."""
        return self.connections >= self.limits.connections and not self.exempt

    @property
    def has_too_much_unread(self) -> bool:
        """Whether nothing more is read until frames are complete."""
        return self.unread > self.limits.unread and not self.exempt

    def may_buffer(self, size: int) -> bool:
        """Whether `size` more bytes of replies may wait to be sent."""
        return self.unsent + size <= self.limits.unsent

    def warn(self, reason: str) -> None:
        """Log, once for each reason, that a connection was closed. A new Owner logs again."""
        if reason not in self.warned:
            self.warned.add(reason)
            log.warning("connection closed", owner=str(self.name), why=reason)


class HasHost(Protocol):
    """A connection with the address of its peer."""

    @property
    def host(self) -> str:
        """The address."""
        ...


_Pending = TypeVar("_Pending", bound=HasHost)


class PendingHandshakes(Generic[_Pending]):
    """Connections that have not authenticated, oldest first.

    When there are too many, the oldest is closed, not the newest refused: a client with a secret shows it within two
    round trips, whereas an attacker's connections would keep their places. Times are the clock's seconds.
    """

    def __init__(self, limits: HandshakeLimits, clock: Callable[[], float]) -> None:
        self._limits = limits
        self._clock = clock
        self._deadlines: dict[_Pending, float] = {}  # oldest first
        self._per_network: Counter[str] = Counter()
        self._paused: dict[_Pending, None] = {}  # oldest first
        self._resumed: set[_Pending] = set()  # their next step is paid for
        self._steps = float(limits.steps_per_s)
        self._steps_at = clock()

    def to_evict(self, host: str) -> _Pending | None:
        """The connection to close before another one from `host` is added: the oldest of its network, or of the
        network with most connections; None while there is room.
        """
        network = network_of(host)
        if self._per_network[network] < self._limits.per_network:
            if len(self._deadlines) < self._limits.connections:
                return None
            network = max(self._per_network, key=self._per_network.__getitem__)
        return next(pending for pending in self._deadlines if network_of(pending.host) == network)

    def add(self, pending: _Pending) -> None:
        """Start its timeout."""
        self._deadlines[pending] = self._clock() + self._limits.timeout_s
        self._per_network[network_of(pending.host)] += 1

    def remove(self, pending: _Pending) -> None:
        """It has been closed or has authenticated."""
        if self._deadlines.pop(pending, None) is None:
            return
        self._paused.pop(pending, None)
        self._resumed.discard(pending)
        network = network_of(pending.host)
        self._per_network[network] -= 1
        if not self._per_network[network]:
            del self._per_network[network]

    def may_continue(self, pending: _Pending) -> bool:
        """Whether a step of its TLS handshake may be computed now; otherwise it is paused."""
        if pending in self._resumed:
            self._resumed.discard(pending)
            return True
        if self._paused or self._available_steps() < 1:
            self._paused[pending] = None
            return False
        self._steps -= 1
        return True

    def is_paused(self, pending: _Pending) -> bool:
        """Whether nothing is read from it now."""
        return pending in self._paused

    def resume(self) -> _Pending | None:
        """The first paused connection, which may continue now; None if there is none or it has to wait."""
        if not self._paused or self._available_steps() < 1:
            return None
        pending = next(iter(self._paused))
        del self._paused[pending]
        self._resumed.add(pending)
        self._steps -= 1
        return pending

    def expired(self, now: float) -> list[_Pending]:
        """The connections whose timeout is over."""
        return [pending for pending, deadline in self._deadlines.items() if now > deadline]

    def next_check(self, now: float) -> float:
        """When `expired` or `resume` has something next."""
        first = min(self._deadlines.values(), default=float("inf")) + 0.01
        return min(first, now + _PAUSE_CHECK_S) if self._paused else first

    def _available_steps(self) -> float:
        now, rate = self._clock(), float(self._limits.steps_per_s)
        self._steps = min(rate, self._steps + (now - self._steps_at) * rate)
        self._steps_at = now
        return self._steps


@lru_cache(maxsize=1024)
def network_of(host: str) -> str:
    """What connections are counted by: an IPv4 address, or an IPv6 /64 network (which has 2^64 addresses)."""
    if ":" not in host:
        return host
    return str(IPv6Network((host.partition("%")[0], 64), strict=False))
