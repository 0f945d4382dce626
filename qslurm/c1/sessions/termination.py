"""Turns signals that would terminate the process into an exception, so that a session can be ended first."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from types import FrameType, TracebackType

TERMINATING = (signal.SIGTERM, signal.SIGHUP)
"""Signals that terminate a process without a handler. Slurm sends SIGTERM at scancel, preemption and the time limit,
and SIGKILL after KillWait (default: 30 s)."""

_AGAIN_S = 5.0
"""Seconds in which repeated signals are ignored, so that cleanup is not interrupted."""


class TerminatedError(SystemExit):
    """Raised in the main thread by a signal that would have killed the process."""

    def __init__(self, number: int) -> None:
        super().__init__(128 + number)
        self.number = number

    def __str__(self) -> str:
        return f"The program was terminated ({signal.Signals(self.number).name})."


def _die(number: int) -> None:
    """Terminate by the signal's default action."""
    os.kill(os.getpid(), number)


class TerminationSignals:
    """A context manager: an unhandled signal in TERMINATING raises in its block, then terminates the process.

    Handlers of the program, and signals that it ignores, are left alone. Has no effect outside the main thread and in
    a forked process.
    """

    def __init__(self, die: Callable[[int], None] = _die) -> None:
        self._die = die
        self._pid = os.getpid()
        self._set: list[int] = []
        self._received = 0
        self._received_at = float("-inf")
        self._deferred = False

    def __enter__(self) -> TerminationSignals:
        if threading.current_thread() is threading.main_thread():
            for number in TERMINATING:
                if signal.getsignal(number) == signal.SIG_DFL:
                    signal.signal(number, self._on_signal)
                    self._set.append(number)
        return self

    def defer(self) -> None:
        """Defer later signals until the block has ended."""
        self._deferred = True

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._deferred = True
        for number in self._set:
            if signal.getsignal(number) == self._on_signal:
                signal.signal(number, signal.SIG_DFL)
        if self._received:
            self._die(self._received)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        del frame
        if os.getpid() != self._pid:
            signal.signal(number, signal.SIG_DFL)
            _die(number)
            return
        self._received = number
        if not self._deferred and time.monotonic() - self._received_at > _AGAIN_S:
            self._received_at = time.monotonic()
            raise TerminatedError(number)
