"""Stories run beside those of other testbeds on this host, except those that must run alone.

All testbeds of a host share the centers' users: a story that kills all processes of its user kills those of others,
too.
"""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def host_lock(*, alone: bool, folder: Path = Path("/run")) -> Iterator[None]:
    """Wait until this story may run, and block others if it must run alone."""
    with (
        (folder / "qslurm-stories.next").open("w") as following,
        (folder / "qslurm-stories").open("w") as lock,
    ):
        fcntl.flock(following, fcntl.LOCK_EX)  # while somebody waits to be alone nobody else begins
        fcntl.flock(lock, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        fcntl.flock(following, fcntl.LOCK_UN)
        try:
            yield
        finally:
            fcntl.flock(lock, fcntl.LOCK_UN)  # forked processes may have the file, too
