"""Writes files atomically: to a temporary file, flushed to disk, then renamed."""

from __future__ import annotations

import os
from pathlib import Path


def write_atomically(path: Path, data: bytes, *, mode: int = 0o644, owner: int = -1, group: int = -1) -> None:
    """Write `data` to `path`; readers see the old or the new file, also after a power cut.

    The file never has another mode than 0600 or `mode`, whatever the umask. `owner` and `group` are ids; -1 keeps the
    caller's. OSError if it fails; no file is left then.
    """
    temporary = path.with_name(f".{path.name}.{os.urandom(4).hex()}")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    try:
        try:
            with open(handle, "wb", closefd=False) as file:
                file.write(data)
            if (owner, group) != (-1, -1):
                os.fchown(handle, owner, group)
            os.fchmod(handle, mode)
            os.fsync(handle)
        finally:
            os.close(handle)
        temporary.rename(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _flush_folder(path.parent)


def _flush_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
