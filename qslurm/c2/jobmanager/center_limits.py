"""What one center's requests may take of the job manager, so that no other center notices.

Who asks is known from a request's headers, before its body is read. From then until its answer has been sent a request
counts as under way for its center; of these a few are at work at a time, and the others wait for them in turn.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, MutableMapping
from typing import Any, TypeVar

from anyio import CapacityLimiter, to_thread
from starlette.requests import Request

from qslurm.errors import UnreachableError

T = TypeVar("T")

MOST_UNDER_WAY = 128
"""Requests of one center; one more is refused."""

SERVED = 16
"""Of these, are read, worked on and answered at a time. The others wait for their turn, and take next to no memory."""

AT_WORK = 8
"""Of these, are in threads at a time."""

NOBODY = ""
"""Counts as the center of all who need no token."""

_CENTER, _TURN = "qslurm.center", "qslurm.turn"


class CenterLimits:
    """Counts requests by center. In the event loop only."""

    def __init__(self) -> None:
        self._under_way: Counter[str] = Counter()
        self._turns: dict[str, asyncio.Semaphore] = {}
        self._limiters: dict[str, CapacityLimiter] = {}

    def begin(self, request: Request, center: str) -> None:
        """A request of this center is under way; UnreachableError if there are too many of them."""
        if self._under_way[center] >= MOST_UNDER_WAY:
            whose = "your center" if center else "requests without a token"
            raise UnreachableError(
                f"Too many requests: more than {MOST_UNDER_WAY} of {whose} are under way.",
                hint="Try again later.",
            )
        self._under_way[center] += 1
        request.scope[_CENTER] = center

    async def turn(self, request: Request) -> None:
        """Wait until a request that has begun may be served; it is served until it has been answered."""
        turns = self._turns.setdefault(request.scope[_CENTER], asyncio.Semaphore(SERVED))
        await turns.acquire()
        request.scope[_TURN] = turns

    def end(self, scope: MutableMapping[str, Any]) -> None:
        """A request has been answered, whether it had begun or not."""
        turns: asyncio.Semaphore | None = scope.pop(_TURN, None)
        if turns is not None:
            turns.release()
        center: str | None = scope.pop(_CENTER, None)
        if center is not None:
            self._under_way[center] -= 1
            if not self._under_way[center]:
                del self._under_way[center]
                self._turns.pop(center, None)
                self._limiters.pop(center, None)

    async def work(self, center: str, work: Callable[[], T]) -> T:
        """Do something in a thread, when there is one for the center."""
        limiter = self._limiters.setdefault(center, CapacityLimiter(AT_WORK))
        return await to_thread.run_sync(work, limiter=limiter)
