"""What one center's requests may take of the job manager, so that no other center notices.

Who asks is known from a request's headers, before its body is read. From then until its answer has been sent a request
counts as under way for its center; of these a few are at work at a time, and the others wait for them in turn.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import TypeVar

from anyio import CapacityLimiter, to_thread
from starlette.requests import Request

from qslurm.errors import UnreachableError

T = TypeVar("T")

MOST_UNDER_WAY = 32
"""Requests of one center; one more is refused."""

AT_WORK = 8
"""Of these, in threads at a time."""

NOBODY = ""
"""Counts as the center of all who need no token."""

_HELD = "qslurm.center"


class CenterLimits:
    """Counts requests by center. In the event loop only."""

    def __init__(self) -> None:
        self._under_way: Counter[str] = Counter()
        self._limiters: dict[str, CapacityLimiter] = {}

    def begin(self, request: Request, center: str) -> None:
        """A request of this center is under way; UnreachableError if there are too many of them."""
        if self._under_way[center] >= MOST_UNDER_WAY:
            whose = "your center" if center else "those without a token"
            raise UnreachableError(
                f"More than {MOST_UNDER_WAY} requests of {whose} are under way.", hint="Ask again later."
            )
        self._under_way[center] += 1
        request.scope[_HELD] = center

    def end(self, scope: object) -> None:
        """A request has been answered, whether it had begun or not."""
        center = scope.pop(_HELD, None) if isinstance(scope, dict) else None
        if center is not None:
            self._under_way[center] -= 1
            if not self._under_way[center]:
                del self._under_way[center]
                self._limiters.pop(center, None)

    async def work(self, center: str, work: Callable[[], T]) -> T:
        """Do something in a thread, when it is the center's turn."""
        limiter = self._limiters.setdefault(center, CapacityLimiter(AT_WORK))
        return await to_thread.run_sync(work, limiter=limiter)
