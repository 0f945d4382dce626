"""Fast process exit."""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
import threading
from typing import NoReturn

_exit = os._exit  # a job's code may have put something else in its place by then


def leave(code: int) -> NoReturn:
    """Exit as the interpreter would, without freeing memory: with scipy that takes 0.1 s.

    It is also the way out for a fork, which must not return to whom it was forked from.
    """
    with contextlib.suppress(BaseException):
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.flush()
    _exit(code)
