"""Fast process exit."""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
import threading
from typing import NoReturn

_exit = os._exit  # bound here, because a job's code may replace it


def leave(code: int) -> NoReturn:
    """Exit as the interpreter would, but without freeing memory, which takes 0.1 s with scipy.

    Also for forked children, which must not return into their parent's code.
    """
    with contextlib.suppress(BaseException):
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.flush()
    _exit(code)
