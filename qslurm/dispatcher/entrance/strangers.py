"""Who has come from a center and not shown yet whose client they are: how many, for how long, and at what cost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

STRANGERS = 256
"""Connections that have not shown whose they are."""

STRANGERS_OF_ONE = 16
"""Of these, from one address; the nodes of a center may share one."""

UNPROVEN_S = 5.0
"""For so long."""

STRANGERS_BYTES = 16 * 1024
"""All that a handshake and a Hello may have."""

HANDSHAKES_A_SECOND = 200
"""Pieces of handshakes that are computed in a second; each takes some 0.1 ms. The others wait."""

_AGAIN_S = 0.02


class Stranger(Protocol):
    """What is asked of a connection here: the address it comes from."""

    @property
    def host(self) -> str:
        """The address."""
        ...


_Guest = TypeVar("_Guest", bound=Stranger)


class Strangers(Generic[_Guest]):
    """Those whose connections have not shown whose they are. Times are the clock's seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._until: dict[_Guest, float] = {}
        self._of_host: Counter[str] = Counter()
        self._patient: set[_Guest] = set()  # their handshake has to wait
        self._room = float(HANDSHAKES_A_SECOND)
        self._room_at = clock()

    def has_room(self, host: str) -> bool:
        """Whether another one may come from there."""
        return len(self._until) < STRANGERS and self._of_host[host] < STRANGERS_OF_ONE

    def add(self, guest: _Guest) -> None:
        """One has come; the time begins that it has."""
        self._until[guest] = self._clock() + UNPROVEN_S
        self._of_host[guest.host] += 1

    def remove(self, guest: _Guest) -> None:
        """It has left, or is no stranger any more."""
        if self._until.pop(guest, None) is None:
            return
        self._patient.discard(guest)
        self._of_host[guest.host] -= 1
        if not self._of_host[guest.host]:
            del self._of_host[guest.host]

    def may_compute(self, guest: _Guest) -> bool:
        """Whether a piece of its handshake may be computed now; if not, it is patient until there is room."""
        if self._refilled() < 1:
            self._patient.add(guest)
            return False
        self._room -= 1
        return True

    def is_patient(self, guest: _Guest) -> bool:
        """Whether it has to wait before more is read from it."""
        return guest in self._patient

    def next_patient(self) -> _Guest | None:
        """One that need not wait any more: it takes the room when it is read."""
        return self._patient.pop() if self._patient and self._refilled() >= 1 else None

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
