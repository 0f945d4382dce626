"""Stops foreground services on SIGTERM and SIGINT."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from qslurm.system.event_log import EventLog

log = EventLog(__name__)


@contextmanager
def signals_stop(stop: Callable[[], None], wakeup_fd: int) -> Iterator[None]:
    """Make SIGTERM and SIGINT call `stop`, and write a byte to `wakeup_fd` to wake up a poll."""

    def handler(number: int, _frame: object) -> None:
        log.info("stopping", signal=signal.Signals(number).name)
        stop()

    before = {number: signal.signal(number, handler) for number in (signal.SIGTERM, signal.SIGINT)}
    previous = signal.set_wakeup_fd(wakeup_fd, warn_on_full_buffer=False)
    try:
        yield
    finally:
        signal.set_wakeup_fd(previous)
        for number, old in before.items():
            signal.signal(number, old)
