"""Runs a user's batch script, as C2's job step does."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn


def run_script(text: bytes, file: Path, arguments: Sequence[str]) -> NoReturn:
    """Write the script to `file` and replace this process by it; raises OSError if no program can run it."""
    file.write_bytes(text)
    file.chmod(0o700)
    for number in (signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores them
        signal.signal(number, signal.SIG_DFL)
    os.execve(  # noqa: S606 -- the user's script
        file, [str(file), *arguments], os.environ
    )
