"""Lets threads wake waiters in an event loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from typing import Any


class Notification(asyncio.Event):
    """An event with the value that it was notified with, if any."""

    value: Any = None


class Notifier:
    """Events by what can change. Listen, then check, then wait, so that no change is missed."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        """Make it in the loop's thread."""
        self._loop = loop
        self._loop_thread = threading.get_ident()
        self._listening: dict[Hashable, set[Notification]] = {}

    @contextmanager
    def listening(self, *what: Hashable) -> Iterator[Notification]:
        """An event that is set by `notify` for one of `what`, with its value. Use it in the loop's thread."""
        event = Notification()
        for one in what:
            self._listening.setdefault(one, set()).add(event)
        try:
            yield event
        finally:
            for one in what:
                self._listening[one].discard(event)
                if not self._listening[one]:
                    del self._listening[one]

    def notify(self, *what: Hashable, value: Any = None) -> None:
        """Wake all listeners of one of `what`. Thread-safe."""
        if threading.get_ident() == self._loop_thread:
            self._notify(what, value)
        elif not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._notify, what, value)

    def _notify(self, what: tuple[Hashable, ...], value: Any) -> None:
        for one in what:
            for event in self._listening.get(one, ()):
                event.value = value
                event.set()


async def within(event: asyncio.Event, seconds: float) -> bool:
    """Wait for an event; whether it came in time."""
    try:
        await asyncio.wait_for(event.wait(), seconds)
    except TimeoutError:
        return False
    return True
