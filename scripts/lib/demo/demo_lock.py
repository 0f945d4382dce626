"""One demo at a time in a checkout; each stops the clusters that it started, however it ends."""

from __future__ import annotations

import fcntl
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn, TextIO

from testbed import Testbed

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Signals that end a demo early: Ctrl-C, a supervisor, a closed terminal."""

STARTED = "a demo has brought both clusters up and not taken them down yet\n"


@contextmanager
def demo_lock(testbed: Testbed, *, keep: bool) -> Iterator[bool]:
    """Wait until no other demo runs in this checkout; yield whether the clusters stay up afterwards.

    They stay up with `keep`, or if they were up before. Clusters that a killed demo left up are stopped by the next
    one.
    """
    with (testbed.layout.state / f"demo-{testbed.name}.lock").open("a+") as note:
        _lock(note)
        note.seek(0)
        is_abandoned = note.read() == STARTED
        stays = keep or (not is_abandoned and any(one.state == "running" for one in testbed.status()))
        _rewrite(note, "" if stays else STARTED)
        with _interruptible():
            try:
                yield stays
            finally:
                _ignore_signals()
                if not stays:
                    testbed.down()
                    _rewrite(note, "")


def _lock(note: TextIO) -> None:
    try:
        fcntl.flock(note, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        print("Another demo runs in this checkout; this one begins when it has ended.", file=sys.stderr)
        fcntl.flock(note, fcntl.LOCK_EX)


def _rewrite(note: TextIO, text: str) -> None:
    note.truncate(0)  # opened to append: what is written next is at the start
    note.write(text)
    note.flush()


@contextmanager
def _interruptible() -> Iterator[None]:
    """Raise KeyboardInterrupt at the first of these signals; ignored ones stay ignored, as under nohup."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    try:
        for number, handler in before.items():
            if handler is not signal.SIG_IGN:
                signal.signal(number, _interrupt)
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
    _ignore_signals()  # the second one must not stop what the first one began
    raise KeyboardInterrupt


def _ignore_signals() -> None:
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
