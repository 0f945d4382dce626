"""Who has come from a center and not shown yet whose client they are: how many, for how long, and at what cost.

Where there is no room for one more, the oldest gives way, and the newest is not turned away: who knows a secret shows
it within two round trips, and who only takes up room would keep it, again and again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import lru_cache
from ipaddress import IPv6Network
from typing import Generic, Protocol, TypeVar

STRANGERS = 256
"""Connections that have not shown whose they are."""

STRANGERS_OF_ONE = 16
"""Of these, from one address, or one network of IPv6; the nodes of a center may share one."""

UNPROVEN_S = 5.0
"""For so long."""

STRANGERS_BYTES = 16 * 1024
"""All that a handshake and a Hello may have."""

HANDSHAKES_A_SECOND = 200
"""Pieces of handshakes that are computed in a second; each takes some 0.1 ms. The others wait."""

_AGAIN_S = 0.02


class Handshake(Protocol):
    """What is asked of a connection here: the address it comes from."""

    @property
    def host(self) -> str:
        """The address."""
        ...


_Guest = TypeVar("_Guest", bound=Handshake)


class HandshakeLimits(Generic[_Guest]):
    """Those whose connections have not shown whose they are. Times are the clock's seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._until: dict[_Guest, float] = {}  # in the order in which they came
        self._of_host: Counter[str] = Counter()
        self._patient: dict[_Guest, None] = {}  # their handshake has to wait; in order
        self._next: set[_Guest] = set()  # have waited, and have the room
        self._room = float(HANDSHAKES_A_SECOND)
        self._room_at = clock()

    def in_the_way(self, host: str) -> _Guest | None:
        """Who has to leave before another one may come from there: the oldest from there, or from where most are."""
        place = network_of(host)
        if self._of_host[place] < STRANGERS_OF_ONE:
            if len(self._until) < STRANGERS:
                return None
            place = max(self._of_host, key=self._of_host.__getitem__)
        return next(guest for guest in self._until if network_of(guest.host) == place)

    def add(self, guest: _Guest) -> None:
        """One has come; the time begins that it has."""
        self._until[guest] = self._clock() + UNPROVEN_S
        self._of_host[network_of(guest.host)] += 1

    def remove(self, guest: _Guest) -> None:
        """It has left, or is no stranger any more."""
        if self._until.pop(guest, None) is None:
            return
        self._patient.pop(guest, None)
        self._next.discard(guest)
        place = network_of(guest.host)
        self._of_host[place] -= 1
        if not self._of_host[place]:
            del self._of_host[place]

    def may_compute(self, guest: _Guest) -> bool:
        """Whether a piece of its handshake may be computed now; if not, it is patient until it is its turn."""
        if guest in self._next:
            self._next.discard(guest)
            return True
        if self._patient or self._refilled() < 1:
            self._patient[guest] = None
            return False
        self._room -= 1
        return True

    def is_patient(self, guest: _Guest) -> bool:
        """Whether it has to wait before more is read from it."""
        return guest in self._patient

    def next_patient(self) -> _Guest | None:
        """The first of those who wait, if it need not wait any more."""
        if not self._patient or self._refilled() < 1:
            return None
        guest = next(iter(self._patient))
        del self._patient[guest]
        self._next.add(guest)
        self._room -= 1
        return guest

    def overdue(self, now: float) -> list[_Guest]:
        """Those whose time is over."""
        return [guest for guest, until in self._until.items() if now > until]

    def next_event(self, now: float) -> float:
        """When there is something to do next."""
        first = min(self._until.values(), default=float("inf")) + 0.01
        return min(first, now + _AGAIN_S) if self._patient else first

    def _refilled(self) -> float:
        now, most = self._clock(), float(HANDSHAKES_A_SECOND)
        self._room = min(most, self._room + (now - self._room_at) * most)
        self._room_at = now
        return self._room


@lru_cache(maxsize=1024)
def network_of(host: str) -> str:
    """Whose an address is: each IPv6 network (/64) has more addresses than could be counted one by one."""
    if ":" not in host:
        return host
    return str(IPv6Network((host.partition("%")[0], 64), strict=False))
