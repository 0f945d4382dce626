"""Reads jobs' logs. Jobs can write to their directories, so nothing in them is trusted."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from qslurm.errors import QslurmError, UnknownJobError

CHUNK = 1024 * 1024
"""Maximum bytes of a log in one response."""


def read_log(folder: str | Path, user: str, job_id: int, offset: int, most: int = CHUNK) -> tuple[bytes, int]:
    """At most `most` bytes of `<folder>/<user>/<job_id>.out` from `offset` on, and the next offset.

    UnknownJobError if there is no log. A link, or a file of another user, counts as none: a job could link to files
    that only we may read.
    """
    try:
        handle = _open(Path(folder), user, f"{job_id}.out")
    except FileNotFoundError:
        raise _no_log(job_id) from None
    except OSError as error:
        if error.errno in {errno.ENOTDIR, errno.ELOOP, errno.ENXIO}:  # a link or a socket
            raise _no_log(job_id) from error
        raise QslurmError(f"Cannot read the log of job {job_id}: {error.strerror}.") from error
    try:
        size = os.fstat(handle).st_size
        start = min(offset, size)
        data = whole_characters(os.pread(handle, most, start))
        return data, start + len(data)
    finally:
        os.close(handle)


def whole_characters(data: bytes) -> bytes:
    """The data without an incomplete UTF-8 character at its end; data that is not UTF-8 is returned unchanged."""
    for back in range(1, min(3, len(data)) + 1):
        byte = data[-back]
        if byte & 0xC0 == 0x80:
            continue
        wanted = 4 if byte >= 0xF0 else 3 if byte >= 0xE0 else 2 if byte >= 0xC0 else 1
        return data[:-back] if wanted > back and len(data) > back else data
    return data


def _no_log(job_id: int) -> UnknownJobError:
    return UnknownJobError(
        f"Job {job_id} has no log.",
        hint="A job has a log once it has started. `qslurm queue` lists your jobs.",
    )


def _open(folder: Path, user: str, name: str) -> int:
    if "/" in user or user in {"", ".", ".."}:
        raise FileNotFoundError(user)
    inside = os.open(folder / user, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        # O_NONBLOCK: opening a FIFO must not block.
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        handle = os.open(name, flags, dir_fd=inside)
        facts, owner = os.fstat(handle), os.fstat(inside).st_uid
    finally:
        os.close(inside)
    if not stat.S_ISREG(facts.st_mode) or facts.st_uid != owner:
        os.close(handle)
        raise FileNotFoundError(name)
    return handle
