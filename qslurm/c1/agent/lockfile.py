"""One agent to an outbox."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from qslurm.errors import QslurmError, UnreachableError


def hold(path: Path) -> int:
    """Keep every other agent from this outbox until the descriptor is closed: two would each send what is in it.

    A descriptor that holds it; UnreachableError if there is another. The kernel lets go when a process ends, however.
    """
    try:
        held = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise QslurmError(
            f"The outbox's {path} can't be opened: {error.strerror}.", hint="Is the folder this user's?"
        ) from error
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(held)
        raise UnreachableError(
            f"Another agent has the outbox in {path.parent}.",
            hint="Each agent needs a folder of its own ([agent] state).",
        ) from error
    return held
