"""A job's view of its node: the system read-only, a writable folder of its own, and nothing of other jobs.

The view is made in new namespaces, before the job is known: by the warm runtimes' service as root, or by a step
that starts its own runtime, within a user namespace. No other process's view changes.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path

import msgspec

import qslurm
from qslurm.errors import ConfigError
from qslurm.system import kernel

WORK = Path("/tmp/job")  # noqa: S108 -- in the job's own /tmp
"""The folder in which a job's code starts: empty, owned by its user, and removed with the job."""

_DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
_SCRATCH = ("/tmp", "/var/tmp", "/dev/shm")  # noqa: S108 -- these are what is replaced
_EMPTIED = ("/root", "/home", "/run")
_TMPFS = kernel.MS_NOSUID | kernel.MS_NODEV
_BIND = kernel.MS_BIND | kernel.MS_REC  # in a user namespace, mounts below must be bound along
_MAX_FILES = 100_000


class View(msgspec.Struct, frozen=True, kw_only=True):
    """Hide the content of the folders `hide`, except for the folders `keep`.

    All that a job writes (its folder, /tmp, /var/tmp, /dev/shm) is kept in memory, `tmp_mb` MB (10^6 bytes) in
    all. Without `closed` only these folders are its own, and the rest of the node is visible.
    """

    hide: list[str]
    keep: list[str]
    tmp_mb: int
    closed: bool = True


def refuse_exposed(python_folders: Iterable[str], secret: Iterable[str]) -> None:
    """Raise ConfigError if a folder that jobs need is, or lies in, one that they must not see, or one that is
    replaced.

    A needed folder may contain a hidden one: deeper folders are hidden later.
    """
    hidden = [Path(os.path.realpath(path)) for path in secret]
    replaced = [Path(os.path.realpath(path)) for path in (*_EMPTIED, *_SCRATCH)]
    for path in python_folders:
        real = Path(os.path.realpath(path))
        lies_in = (one for one in hidden if real.is_relative_to(one))
        if found := next(lies_in, None) or next((one for one in replaced if one == real), None):
            raise ConfigError(
                f"Jobs need {path} and must not see {found}, but one contains the other.",
                hint="Move one of them in c2.toml.",
            )


def make_view(view: View) -> None:
    """Make the view, in new mount and PID namespaces. Raises OSError if the host does not permit it."""
    kernel.mount("", "/", flags=kernel.MS_REC | kernel.MS_PRIVATE)
    with ExitStack() as opened:
        kept = {os.path.realpath(path): _open_path(path, opened) for path in view.keep if Path(path).is_dir()}
        if view.closed:
            kernel.set_readonly("/", recursive=True)
            _mount_devices()
        hidden = outermost([*_SCRATCH, *((*_EMPTIED, *view.hide) if view.closed else ())])
        parts = _mount_memory(view.tmp_mb, opened)
        for path in hidden:
            _hide(path, parts.get(path), kept)
    WORK.mkdir(mode=0o700)
    kernel.mount("proc", "/proc", "proc", _TMPFS | kernel.MS_NOEXEC)


def outermost(paths: Sequence[str]) -> list[str]:
    """The real paths of folders, each after those that contain it: later mounts lie on top."""
    return sorted({os.path.realpath(path) for path in paths}, key=lambda path: len(Path(path).parts))


def _hide(real: str, memory_part: int | None, kept: dict[str, int]) -> None:
    """Mount a part of the job's memory, or an empty folder, over a folder; kept folders inside stay visible."""
    try:
        if not Path(real).is_dir():
            return
    except PermissionError:  # nor can the job's user, who makes this view
        return
    if memory_part is None:
        kernel.mount("tmpfs", real, "tmpfs", _TMPFS, "mode=0755,size=1m")
    else:
        kernel.mount(_fd_path(memory_part), real, flags=_BIND)
    for kept_path in outermost([path for path in kept if Path(path).is_relative_to(real)]):
        Path(kept_path).mkdir(parents=True, exist_ok=True)
        kernel.mount(_fd_path(kept[kept_path]), kept_path, flags=_BIND)
    if memory_part is None:
        kernel.set_readonly(real)


def _mount_devices() -> None:
    with ExitStack() as opened:
        devices = {
            name: _open_path(f"/dev/{name}", opened, folder=False)
            for name in _DEVICES
            if Path("/dev", name).exists()
        }
        kernel.mount("tmpfs", "/dev", "tmpfs", kernel.MS_NOSUID, "mode=0755,size=1m")
        for name, handle in devices.items():
            Path("/dev", name).touch()
            kernel.mount(_fd_path(handle), f"/dev/{name}", flags=_BIND)
    for name, target in (("fd", ""), ("stdin", "/0"), ("stdout", "/1"), ("stderr", "/2")):
        Path("/dev", name).symlink_to(f"/proc/self/fd{target}")
    Path("/dev", "shm").mkdir()
    kernel.set_readonly("/dev")


def _mount_memory(size_mb: int, opened: ExitStack) -> dict[str, int]:
    """One tmpfs for all that the job writes, with a part for each folder where programs write."""
    pool, parts = _SCRATCH[0], {}
    options = f"mode=0755,size={size_mb * 1_000_000},nr_inodes={_MAX_FILES}"
    kernel.mount("tmpfs", pool, "tmpfs", _TMPFS, options)
    for number, place in enumerate(_SCRATCH):
        memory_part = Path(pool, str(number))
        memory_part.mkdir()
        memory_part.chmod(0o1777)
        parts[os.path.realpath(place)] = _open_path(str(memory_part), opened)
    return parts


def python_folders() -> list[str]:
    """The folders of Python and of this package."""
    package = Path(qslurm.__file__).parents[1]
    return list(
        dict.fromkeys(
            os.path.realpath(path) for path in (sys.prefix, sys.base_prefix, sys.exec_prefix, package)
        )
    )


def _open_path(path: str, opened: ExitStack, *, folder: bool = True) -> int:
    handle = os.open(path, os.O_PATH | os.O_CLOEXEC | (os.O_DIRECTORY if folder else 0))
    opened.callback(os.close, handle)
    return handle


def _fd_path(handle: int) -> str:
    return f"/proc/self/fd/{handle}"
