"""A connection to the job manager with limits that uvicorn lacks: the time for a request to arrive, the time an
answer may remain unread, and the number of idle connections.

Without them a few hundred idle connections would exclude all other clients.
"""

from __future__ import annotations

import asyncio
from typing import Any, ClassVar
from weakref import WeakKeyDictionary

from uvicorn.protocols.http.h11_impl import H11Protocol

REQUEST_S = 10.0
"""Seconds from a connection's beginning, or from the first byte of a later request, to a request's last header."""

UNREAD_S = 30.0
"""Seconds for which a client may read nothing of its answer."""

MOST_IDLE = 128
"""Connections of a server without an open request; with one more, the one idle for longest is closed."""


class LimitedHttpProtocol(H11Protocol):
    """uvicorn's HTTP/1.1 with these limits."""

    _deadline: asyncio.TimerHandle | None = None
    _unread: asyncio.TimerHandle | None = None
    _idle: ClassVar[WeakKeyDictionary[Any, dict[LimitedHttpProtocol, None]]] = WeakKeyDictionary()
    """Idle connections by server (its state), longest first."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the time limit for the first request."""
        super().connection_made(transport)
        self._start_deadline()
        self._mark_idle()

    def data_received(self, data: bytes) -> None:
        """Start the time limit at a request's first byte; stop it when the request's headers are complete."""
        self._start_deadline()
        super().data_received(data)
        if self.cycle is not None and not self.cycle.response_complete:
            self._stop_deadline()
            self._idle_connections.pop(self, None)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop all limits."""
        self._stop_deadline()
        self.resume_writing()
        self._idle_connections.pop(self, None)
        super().connection_lost(exc)

    def on_response_complete(self) -> None:
        """Stop the limit, since uvicorn limits the pause between requests; an unread body gets a new limit."""
        self._stop_deadline()
        self._mark_idle()
        if self.cycle is not None and self.cycle.more_body:
            self._start_deadline()
        super().on_response_complete()

    def pause_writing(self) -> None:
        """The client stopped reading."""
        super().pause_writing()
        self._unread = self._unread or self.loop.call_later(UNREAD_S, self._abort)

    def resume_writing(self) -> None:
        """The client reads again."""
        super().resume_writing()
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None

    @property
    def _idle_connections(self) -> dict[LimitedHttpProtocol, None]:
        return self._idle.setdefault(self.server_state, {})

    def _mark_idle(self) -> None:
        idle = self._idle_connections
        idle[self] = None
        if len(idle) > MOST_IDLE:
            longest = next(iter(idle))
            del idle[longest]
            longest._close()

    def _start_deadline(self) -> None:
        if self._deadline is None:
            self._deadline = self.loop.call_later(REQUEST_S, self._close)

    def _stop_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _abort(self) -> None:
        self.transport.abort()

    def _close(self) -> None:
        transport: Any = self.transport
        if not transport.is_closing():
            transport.close()
