"""What a job sees of its node: the system to read, a folder of its own to write, and nothing of anybody else's.

Whoever runs a job's code makes the view in new namespaces before it knows whose job it will be: the warm runtimes'
service as root, and a step that starts its runtime itself within a user namespace. Nobody else's view changes.
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
"""The folder in which a job's code begins: empty, its user's, and gone with the job."""

_DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
_SCRATCH = ("/tmp", "/var/tmp", "/dev/shm")  # noqa: S108 -- these are what is replaced
_EMPTIED = ("/root", "/home", "/run")
_TMPFS = kernel.MS_NOSUID | kernel.MS_NODEV
_BIND = (
    kernel.MS_BIND | kernel.MS_REC
)  # within a user namespace, what is mounted below may not be left behind
_MOST_FILES = 100_000


class View(msgspec.Struct, frozen=True, kw_only=True):
    """Nothing below a folder of `hide` is there, unless it is in one of `keep`.

    All that a job writes (its folder, /tmp, /var/tmp, /dev/shm) is in memory, `tmp_mb` MB (of 10^6 bytes) in all. Not
    `closed`, only these are its own, and the rest is the node as it is.
    """

    hide: list[str]
    keep: list[str]
    tmp_mb: int
    closed: bool = True


def refuse_exposed(needed: Iterable[str], secret: Iterable[str]) -> None:
    """ConfigError if a folder that jobs need is, or lies in, one that they must not see, or is one that is replaced.

    One that contains such a folder is no harm: what lies deeper is hidden after it.
    """
    hidden = [Path(os.path.realpath(path)) for path in secret]
    replaced = [Path(os.path.realpath(path)) for path in (*_EMPTIED, *_SCRATCH)]
    for path in needed:
        real = Path(os.path.realpath(path))
        lies_in = (one for one in hidden if real.is_relative_to(one))
        if found := next(lies_in, None) or next((one for one in replaced if one == real), None):
            raise ConfigError(
                f"Jobs need {path} and must not see {found}, but one contains the other.",
                hint="Move one of them in c2.toml.",
            )


def make(view: View) -> None:
    """Make the view, in mount and process namespaces that are new. OSError if this host does not let us."""
    kernel.mount("", "/", flags=kernel.MS_REC | kernel.MS_PRIVATE)
    with ExitStack() as opened:
        kept = {os.path.realpath(path): _open(path, opened) for path in view.keep if Path(path).is_dir()}
        if view.closed:
            kernel.set_readonly("/", recursive=True)
            _own_devices()
        hidden = outermost([*_SCRATCH, *((*_EMPTIED, *view.hide) if view.closed else ())])
        parts = _own_memory(view.tmp_mb, opened)
        for path in hidden:
            _hide(path, parts.get(path), kept)
    WORK.mkdir(mode=0o700)
    kernel.mount("proc", "/proc", "proc", _TMPFS | kernel.MS_NOEXEC)


def outermost(paths: Sequence[str]) -> list[str]:
    """The real paths of folders, each after those that contain it: what is mounted later lies above."""
    return sorted({os.path.realpath(path) for path in paths}, key=lambda path: len(Path(path).parts))


def _hide(real: str, part: int | None, kept: dict[str, int]) -> None:
    """Put a part of the job's memory, or an empty folder, in a folder's place; what is kept stays inside of it."""
    try:
        if not Path(real).is_dir():
            return
    except PermissionError:  # the job's user, who makes this view, can't get there
        return
    if part is None:
        kernel.mount("tmpfs", real, "tmpfs", _TMPFS, "mode=0755,size=1m")
    else:
        kernel.mount(_by(part), real, flags=_BIND)
    for one in outermost([path for path in kept if Path(path).is_relative_to(real)]):
        Path(one).mkdir(parents=True, exist_ok=True)
        kernel.mount(_by(kept[one]), one, flags=_BIND)
    if part is None:
        kernel.set_readonly(real)


def _own_devices() -> None:
    with ExitStack() as opened:
        devices = {
            name: _open(f"/dev/{name}", opened, folder=False)
            for name in _DEVICES
            if Path("/dev", name).exists()
        }
        kernel.mount("tmpfs", "/dev", "tmpfs", kernel.MS_NOSUID, "mode=0755,size=1m")
        for name, handle in devices.items():
            Path("/dev", name).touch()
            kernel.mount(_by(handle), f"/dev/{name}", flags=_BIND)
    for name, target in (("fd", ""), ("stdin", "/0"), ("stdout", "/1"), ("stderr", "/2")):
        Path("/dev", name).symlink_to(f"/proc/self/fd{target}")
    Path("/dev", "shm").mkdir()
    kernel.set_readonly("/dev")


def _own_memory(size_mb: int, opened: ExitStack) -> dict[str, int]:
    """One piece of memory for all that the job writes, in a part for each place where programs look for room."""
    pool, parts = _SCRATCH[0], {}
    options = f"mode=0755,size={size_mb * 1_000_000},nr_inodes={_MOST_FILES}"
    kernel.mount("tmpfs", pool, "tmpfs", _TMPFS, options)
    for number, place in enumerate(_SCRATCH):
        part = Path(pool, str(number))
        part.mkdir()
        part.chmod(0o1777)
        parts[os.path.realpath(place)] = _open(str(part), opened)
    return parts


def needed() -> list[str]:
    """The folders that Python and this package are in."""
    package = Path(qslurm.__file__).parents[1]
    return list(
        dict.fromkeys(
            os.path.realpath(path) for path in (sys.prefix, sys.base_prefix, sys.exec_prefix, package)
        )
    )


def _open(path: str, opened: ExitStack, *, folder: bool = True) -> int:
    handle = os.open(path, os.O_PATH | os.O_CLOEXEC | (os.O_DIRECTORY if folder else 0))
    opened.callback(os.close, handle)
    return handle


def _by(handle: int) -> str:
    return f"/proc/self/fd/{handle}"
