"""Replies that wait: until the changes that they report are stored, or until an execution has an outcome."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from qslurm.protocol.messages import Message, Pending
from qslurm.wire.connection import Address

HOLD_S = 1.0
"""How long a request for an outcome waits before it is answered with Pending."""

_STALE_S = 5.0  # the client has timed out by then, and repeats its request

ExecutionId = tuple[int, int]
"""A task's id and the number of one of its executions; END for the end of the task."""


@dataclass(frozen=True)
class _Held:
    since: float
    address: Address
    message: Message
    to_step: bool


class Replies:
    """Replies that must not be sent yet. Times are monotonic seconds."""

    def __init__(self, send: Callable[[Address, Message], None]) -> None:
        self._send = send
        self._held: list[_Held] = []
        self._waiting: dict[ExecutionId, dict[Address, float]] = {}

    def hold(self, address: Address, message: Message, now: float, *, to_step: bool) -> None:
        """Send a reply once all changes so far are stored; `to_step` says whether the client is a job step."""
        self._held.append(_Held(now, address, message, to_step))

    def wait(self, execution: ExecutionId, address: Address, now: float, hold_s: float = HOLD_S) -> None:
        """Let a request wait for an outcome; `expired` yields it after `hold_s`."""
        self._waiting.setdefault(execution, {})[address] = now + hold_s

    def settle(self, outcomes: Iterable[tuple[int, int, Message]], now: float) -> None:
        """Hold these outcomes (task, seq, reply) for the requests that wait for them."""
        for task, seq, message in outcomes:
            for address in self._waiting.pop((task, seq), {}):
                self.hold(address, message, now, to_step=True)

    def send_held(self) -> None:
        """Send the held replies: all changes are stored."""
        for held in self._held:
            self._send(held.address, held.message)
        self._held.clear()

    def defer(self, reason: str, now: float) -> None:
        """Changes could not be stored: answer steps with Pending; keep recent replies to others."""
        kept = []
        for held in self._held:
            if held.to_step:
                self._send(held.address, Pending(reason=reason, position=0, again=True))
            elif now - held.since < _STALE_S:
                kept.append(held)
        self._held = kept

    def expired(self, now: float) -> Iterator[tuple[ExecutionId, Address]]:
        """Remove and yield the requests that have waited long enough."""
        for execution, addresses in list(self._waiting.items()):
            for address in [address for address, until in addresses.items() if until <= now]:
                del addresses[address]
                yield execution, address
            if not addresses:
                del self._waiting[execution]

    def next_event(self) -> float:
        """When `expired` has something to yield next."""
        times = (until for addresses in self._waiting.values() for until in addresses.values())
        return min(times, default=float("inf"))
