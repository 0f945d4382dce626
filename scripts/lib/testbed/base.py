"""A short path, open to every user, to a state folder that may lie deep, or below a folder nobody may enter.

Daemons and jobs run as other users than the one who owns the checkout, and a Unix socket's path has room for
108 bytes. So where the state folder itself is no good, it is bound to one in /run while an instance is up.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
import subprocess
from pathlib import Path

from testbed.errors import TestbedError

LONGEST = 40
"""Bytes that leave room for the longest socket: <base>/testbed/<name>/c2/spool/<node>_<job>.<step>."""

RUN = Path("/run")


def choose(state: Path, name: str) -> Path:
    """The path by which all users reach the state folder: the folder itself, or where it will be bound."""
    if (
        len(os.fsencode(state)) <= LONGEST
        and re.fullmatch(r"[\w./+-]+", str(state), re.ASCII)
        and open_to_all(state)
    ):
        return state
    digest = hashlib.sha256(os.fsencode(state) + b"\0" + name.encode()).hexdigest()
    return RUN / f"qslurm-{digest[:8]}"


def open_to_all(folder: Path) -> bool:
    """Whether every user may enter the folder and its parents."""
    return all(one.stat().st_mode & stat.S_IXOTH for one in (folder, *folder.parents))


def bind(state: Path, base: Path) -> None:
    """Bind `state` to `base`."""
    if base == state or _same(state, base):
        return
    release(state, base)
    base.mkdir(mode=0o755, exist_ok=True)
    done = subprocess.run(
        ["mount", "--bind", state, base], capture_output=True, text=True, timeout=30, check=False
    )
    if done.returncode:
        base.rmdir()
        raise TestbedError(
            f"{state} is too long or not open to all users, and cannot be bound to {base}: "
            f"{done.stderr.strip()} Clone the project into a folder that all users can enter, such as /opt."
        )


def release(state: Path, base: Path) -> None:
    """Undo `bind`, if it was done."""
    if base == state:
        return
    while _mounted(base):
        subprocess.run(["umount", "--lazy", base], check=True, capture_output=True, timeout=30)
    if base.is_dir():
        base.rmdir()


def _same(state: Path, base: Path) -> bool:
    return base.is_dir() and base.samefile(state)


def _mounted(folder: Path) -> bool:
    mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    return any(line.split()[4] == str(folder) for line in mounts)
