"""Locks the outbox: one agent per outbox."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from qslurm.errors import QslurmError, UnreachableError


def hold(path: Path) -> int:
    """Lock this outbox until the descriptor is closed, so that no second agent submits its entries.

    A descriptor that holds it; UnreachableError if there is another. The kernel lets go when a process ends, however.
    """
    try:
        held = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise QslurmError(
            f"Cannot open the outbox's lock file {path}: {error.strerror}.",
            hint="Check the directory's owner and permissions.",
        ) from error
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(held)
        raise UnreachableError(
            f"Another agent is using the outbox in {path.parent}.",
            hint="Set a different directory for each agent (state under [agent]).",
        ) from error
    return held
