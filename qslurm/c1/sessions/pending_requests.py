"""Pending requests of a session: what to send when, and what to repeat."""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future
from dataclasses import dataclass

import msgspec

from qslurm.protocol.dispatcher_frames import BODY_LIMIT, encode
from qslurm.protocol.messages import CIRCUIT_BYTES_IN_SESSION, OPEN_IN_SESSION, Conclude, Execute, Message
from qslurm.wire.frames import frame

_AGAIN_S = 1.0


@dataclass(frozen=True)
class PendingRequest:
    """A request; its task is set when it is sent, since a restarted job has another."""

    message: Execute | Conclude
    answer: Future[Message]

    @property
    def size(self) -> int:
        """Size of its circuit in bytes."""
        return len(self.message.circuit) if isinstance(self.message, Execute) else 0


class PendingRequests:
    """Pending requests by number. Callers synchronize. Times are monotonic seconds."""

    def __init__(self) -> None:
        self._open: dict[int, PendingRequest] = {}
        self._outbox: deque[int] = deque()
        self._sent: dict[int, int] = {}  # sent, and not answered: sizes of their circuits
        self._later: dict[int, float] = {}  # when to repeat each
        self._number = 0

    def add(self, message: Execute | Conclude) -> Future[Message]:
        """Add a request; the future of its answer."""
        answer: Future[Message] = Future()
        self._number += 1
        self._open[self._number] = PendingRequest(message, answer)
        self._outbox.append(self._number)
        return answer

    def repeat_all(self) -> None:
        """The connection broke: repeat all pending requests over the next one."""
        self._outbox = deque(self._open)
        self._sent.clear()
        self._later.clear()

    def repeat(self, number: int, now: float) -> None:
        """Repeat a request after a delay."""
        self._later[number] = now + _AGAIN_S

    def due(self, task: int, now: float) -> bytes:
        """The requests to send now, within C2's limits."""
        for number in [number for number, when in self._later.items() if when <= now]:
            del self._later[number]
            self._sent.pop(number, None)
            self._outbox.appendleft(number)
        sent = bytearray()
        while self._outbox and self._has_room():
            number = self._outbox.popleft()
            request = self._open.get(number)
            if request is not None:
                self._sent[number] = request.size
                sent += frame(number, encode(msgspec.structs.replace(request.message, task=task)))
        return bytes(sent)

    def next_event(self) -> float:
        """When the next request is to be repeated."""
        return min(self._later.values(), default=float("inf"))

    def is_oldest(self, number: int) -> bool:
        """Whether all earlier requests have been answered."""
        return number == next(iter(self._open), 0)

    def answered(self, number: int) -> PendingRequest | None:
        """Remove and return the request with this number; None if it is not pending."""
        self._sent.pop(number, None)
        return self._open.pop(number, None)

    def take_all(self) -> list[PendingRequest]:
        """Remove and return all pending requests."""
        left = list(self._open.values())
        self._open.clear()
        return left

    def _has_room(self) -> bool:
        size = sum(self._sent.values())
        return len(self._sent) < OPEN_IN_SESSION and size <= CIRCUIT_BYTES_IN_SESSION - BODY_LIMIT
