"""Ends a session before its program is terminated by a signal."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from types import FrameType, TracebackType

TERMINATING = (signal.SIGTERM, signal.SIGHUP)
"""What ends a process that has no handler for it. Slurm sends SIGTERM at scancel, preemption and the time limit, and
SIGKILL after KillWait (30 s unless it is set)."""

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
    """While the body runs, an otherwise unhandled signal of TERMINATING raises in it, then terminates the process.

    A handler that the program has, or sets meanwhile, stays, and so does a signal that it ignores. Only the main
    thread can have handlers; in another one, and in a forked process, all is as without this.
    """

    def __init__(self, die: Callable[[int], None] = _die) -> None:
        self._die = die
        self._pid = os.getpid()
        self._set: list[int] = []
        self._told = 0
        self._told_at = float("-inf")
        self._held_back = False

    def __enter__(self) -> TerminationSignals:
        if threading.current_thread() is threading.main_thread():
            for number in TERMINATING:
                if signal.getsignal(number) == signal.SIG_DFL:
                    signal.signal(number, self._tell)
                    self._set.append(number)
        return self

    def hold_back(self) -> None:
        """Defer later signals until the body has ended."""
        self._held_back = True

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._held_back = True
        for number in self._set:
            if signal.getsignal(number) == self._tell:
                signal.signal(number, signal.SIG_DFL)
        if self._told:
            self._die(self._told)

    def _tell(self, number: int, frame: FrameType | None) -> None:
        del frame
        if os.getpid() != self._pid:
            signal.signal(number, signal.SIG_DFL)
            _die(number)
            return
        self._told = number
        if not self._held_back and time.monotonic() - self._told_at > _AGAIN_S:
            self._told_at = time.monotonic()
            raise TerminatedError(number)
