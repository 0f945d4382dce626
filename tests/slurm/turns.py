"""Stories run beside those of other testbeds on this host, but for one that has to have it alone.

All testbeds of a host share the users of centers: what kills all processes of its user kills those of others, too.
"""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def turn(*, alone: bool, folder: Path = Path("/run")) -> Iterator[None]:
    """Wait until this story may run, and keep others from it meanwhile that may not run beside it."""
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
