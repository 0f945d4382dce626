"""Limits what one center's requests may use, so that other centers are not slowed down.

The center is known from a request's headers, before the body is read. A request is open from then until its response
has been sent. Of a center's open requests some are served at a time, and the others wait in turn.
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

MOST_OPEN = 128
"""Open requests of one center; one more is refused."""

MOST_SERVED = 16
"""Open requests of one center that are read, processed and answered at a time; waiting ones need little memory."""

MOST_THREADS = 8
"""Threads that serve one center at a time."""

NO_CENTER = ""
"""The center of requests that need no token."""

_CENTER, _TURN = "qslurm.center", "qslurm.turn"


class CenterLimits:
    """Counts requests by center. For use in the event loop."""

    def __init__(self) -> None:
        self._open: Counter[str] = Counter()
        self._turns: dict[str, asyncio.Semaphore] = {}
        self._limiters: dict[str, CapacityLimiter] = {}

    def begin(self, request: Request, center: str) -> None:
        """Count an open request of this center; UnreachableError if there are too many."""
        if self._open[center] >= MOST_OPEN:
            whose = "your center" if center else "requests without a token"
            raise UnreachableError(
                f"Too many requests: more than {MOST_OPEN} of {whose} are under way.",
                hint="Try again later.",
            )
        self._open[center] += 1
        request.scope[_CENTER] = center

    async def turn(self, request: Request) -> None:
        """Wait until an open request may be served."""
        turns = self._turns.setdefault(request.scope[_CENTER], asyncio.Semaphore(MOST_SERVED))
        await turns.acquire()
        request.scope[_TURN] = turns

    def end(self, scope: MutableMapping[str, Any]) -> None:
        """A request has been answered, whether it was counted or not."""
        turns: asyncio.Semaphore | None = scope.pop(_TURN, None)
        if turns is not None:
            turns.release()
        center: str | None = scope.pop(_CENTER, None)
        if center is not None:
            self._open[center] -= 1
            if not self._open[center]:
                del self._open[center]
                self._turns.pop(center, None)
                self._limiters.pop(center, None)

    async def work(self, center: str, work: Callable[[], T]) -> T:
        """Call `work` in one of the center's threads, when one is free."""
        limiter = self._limiters.setdefault(center, CapacityLimiter(MOST_THREADS))
        return await to_thread.run_sync(work, limiter=limiter)
