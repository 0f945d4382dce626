"""Who gets an answer, and when: after what it tells of has been stored, or with a reason to wait on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from qslurm.protocol.messages import Message, Pending
from qslurm.wire.connection import Address

HOLD_S = 1.0
"""How long a question about an execution is kept before it is answered with Pending."""

_STALE_S = 5.0  # whoever asked has given up by then, and asks again

Question = tuple[int, int]
"""A task and the number of one of its executions."""


@dataclass(frozen=True)
class _Held:
    since: float
    address: Address
    message: Message
    to_step: bool


class Replies:
    """Answers that must not be sent yet. Times are monotonic seconds."""

    def __init__(self, send: Callable[[Address, Message], None]) -> None:
        self._send = send
        self._held: list[_Held] = []
        self._waiting: dict[Question, dict[Address, float]] = {}

    def hold(self, address: Address, message: Message, now: float, *, to_step: bool) -> None:
        """Send this, to a job step or to somebody else, once everything that has changed so far is stored."""
        self._held.append(_Held(now, address, message, to_step))

    def wait(self, question: Question, address: Address, now: float, hold_s: float = HOLD_S) -> None:
        """Somebody waits for an execution's outcome, or for a task's end; after `hold_s` they are impatient."""
        self._waiting.setdefault(question, {})[address] = now + hold_s

    def settle(self, outcomes: Iterable[tuple[int, int, Message]], now: float) -> None:
        """These outcomes are there: whoever waits for one gets it once it is stored."""
        for task, seq, message in outcomes:
            for address in self._waiting.pop((task, seq), {}):
                self.hold(address, message, now, to_step=True)

    def send_held(self) -> None:
        """Everything is stored."""
        for held in self._held:
            self._send(held.address, held.message)
        self._held.clear()

    def defer(self, reason: str, now: float) -> None:
        """Storing has failed: steps are told to ask again; for the others it may still work in time."""
        kept = []
        for held in self._held:
            if held.to_step:
                self._send(held.address, Pending(reason=reason, position=0, again=True))
            elif now - held.since < _STALE_S:
                kept.append(held)
        self._held = kept

    def expired(self, now: float) -> Iterator[tuple[Question, Address]]:
        """Who has waited long enough, and for what; they are not waiting any more."""
        for question, addresses in list(self._waiting.items()):
            for address in [address for address, until in addresses.items() if until <= now]:
                del addresses[address]
                yield question, address
            if not addresses:
                del self._waiting[question]

    def next_event(self) -> float:
        """When `expired` has something to give next."""
        times = (until for addresses in self._waiting.values() for until in addresses.values())
        return min(times, default=float("inf"))
