"""One connection to the job manager, with limits that uvicorn does not have: how long a request may take to arrive, how
long an answer may stand unread, and how many connections may have no request under way.

Without them a few hundred connections that say nothing keep everybody else out, and they cost nobody anything.
"""

from __future__ import annotations

import asyncio
from typing import Any, ClassVar
from weakref import WeakKeyDictionary

from uvicorn.protocols.http.h11_impl import H11Protocol

REQUEST_S = 10.0
"""Seconds from a connection's beginning, or from the first byte of a later request, to a request's last header."""

UNREAD_S = 30.0
"""Seconds for which a client may take nothing of its answer."""

MOST_IDLE = 128
"""Connections of a server without a request under way; one more, and the one that waits longest is closed."""


class LimitedHttpProtocol(H11Protocol):
    """HTTP/1.1 as uvicorn speaks it; a connection on which no request becomes complete in time is closed."""

    _deadline: asyncio.TimerHandle | None = None
    _unread: asyncio.TimerHandle | None = None
    _idle: ClassVar[WeakKeyDictionary[Any, dict[LimitedHttpProtocol, None]]] = WeakKeyDictionary()
    """By server (its state), in the order in which they became so."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a request."""
        super().connection_made(transport)
        self._expect()
        self._rest()

    def data_received(self, data: bytes) -> None:
        """Wait for a request from its first byte on, until uvicorn has made something of it."""
        self._expect()
        super().data_received(data)
        if self.cycle is not None and not self.cycle.response_complete:
            self._relax()
            self._others.pop(self, None)

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no more."""
        self._relax()
        self.resume_writing()
        self._others.pop(self, None)
        super().connection_lost(exc)

    def on_response_complete(self) -> None:
        """Between two requests uvicorn's own keep-alive limit counts; a body that nobody wants has a request's time."""
        self._relax()
        self._rest()
        if self.cycle is not None and self.cycle.more_body:
            self._expect()
        super().on_response_complete()

    def pause_writing(self) -> None:
        """The client takes nothing more of its answer."""
        super().pause_writing()
        self._unread = self._unread or self.loop.call_later(UNREAD_S, self._abort)

    def resume_writing(self) -> None:
        """It has taken some."""
        super().resume_writing()
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None

    @property
    def _others(self) -> dict[LimitedHttpProtocol, None]:
        return self._idle.setdefault(self.server_state, {})

    def _rest(self) -> None:
        """There is no request under way."""
        self._others[self] = None
        if len(self._others) > MOST_IDLE:
            longest = next(iter(self._others))
            del self._others[longest]
            longest._give_up()

    def _expect(self) -> None:
        if self._deadline is None:
            self._deadline = self.loop.call_later(REQUEST_S, self._give_up)

    def _relax(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _abort(self) -> None:
        self.transport.abort()

    def _give_up(self) -> None:
        transport: Any = self.transport
        if not transport.is_closing():
            transport.close()
