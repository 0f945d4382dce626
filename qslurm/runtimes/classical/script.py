"""A batch script of a user's own, as C2's job step runs it."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn


def run_script(text: bytes, file: Path, arguments: Sequence[str]) -> NoReturn:
    """Become the script, which is written to this file; OSError if it names no program that can run it."""
    file.write_bytes(text)
    file.chmod(0o700)
    for number in (signal.SIGPIPE, signal.SIGXFSZ):  # Python does without them
        signal.signal(number, signal.SIG_DFL)
    os.execve(  # noqa: S606 -- that is what it is for
        file, [str(file), *arguments], os.environ
    )
