"""What a confined job sees of its node: the system to read, its own folder to write, and nobody else's.

Called as root in a new mount namespace, before the job's code. Nothing here changes what others see.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import msgspec

import qslurm
from qslurm.runtimes.classical import kernel

_DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
_SCRATCH = ("/tmp", "/var/tmp")  # noqa: S108 -- these are what is replaced
_SECRETIVE = ("/root", "/home", "/run")
_TMPFS = kernel.MS_NOSUID | kernel.MS_NODEV


class View(msgspec.Struct, frozen=True, kw_only=True):
    """`keep` stays visible even inside of `hide`; scratch folders are empty and take `tmp_mb` each."""

    hide: list[str]
    keep: list[str]
    tmp_mb: int


def prepare(view: View | None) -> None:
    """What can be done before it is known whose job it will be; without a view only /proc changes.

    A new process namespace has to be shown its own processes.
    """
    kernel.mount("", "/", flags=kernel.MS_REC | kernel.MS_PRIVATE)
    if view is not None:
        kernel.set_readonly("/", recursive=True)
        _own_devices(view.tmp_mb)
    kernel.mount("proc", "/proc", "proc", _TMPFS | kernel.MS_NOEXEC)


def finish(view: View, folder: str, identity: tuple[int, int]) -> None:
    """Show the job's folder (`identity`: its device and inode) writable, hide the rest."""
    with ExitStack() as opened:
        handle = _open_same(folder, identity, opened)
        kept = {path: _open(path, opened) for path in view.keep if Path(path).is_dir()}
        shown = folder if folder != "/" else ""
        if shown:
            kernel.mount(_by(handle), _by(handle), flags=kernel.MS_BIND)
            kept[folder] = _open_same(folder, identity, opened)
            kernel.set_readonly(_by(kept[folder]), readonly=False)
        for path in _outermost([*_SECRETIVE, *_SCRATCH, *view.hide]):
            _hide(path, kept, size_mb=view.tmp_mb if path in _SCRATCH else 0)


def _hide(path: str, kept: dict[str, int], size_mb: int = 0) -> None:
    """Put an empty folder in a folder's place, with what must be kept inside of it."""
    real = os.path.realpath(path)
    if not Path(real).is_dir():
        return
    options = f"mode=1777,size={size_mb}m" if size_mb else "mode=0755,size=1m"
    kernel.mount("tmpfs", real, "tmpfs", _TMPFS, options)
    inside = [one for one in kept if Path(one).is_relative_to(real)]
    for one in sorted(inside, key=len):
        Path(one).mkdir(parents=True, exist_ok=True)
        kernel.mount(_by(kept[one]), one, flags=kernel.MS_BIND)
    if not size_mb:
        kernel.set_readonly(real)


def _own_devices(size_mb: int) -> None:
    with ExitStack() as opened:
        devices = {
            name: _open(f"/dev/{name}", opened, folder=False)
            for name in _DEVICES
            if Path("/dev", name).exists()
        }
        kernel.mount("tmpfs", "/dev", "tmpfs", kernel.MS_NOSUID, "mode=0755,size=1m")
        for name, handle in devices.items():
            Path("/dev", name).touch()
            kernel.mount(_by(handle), f"/dev/{name}", flags=kernel.MS_BIND)
    for name, target in (("fd", ""), ("stdin", "/0"), ("stdout", "/1"), ("stderr", "/2")):
        Path("/dev", name).symlink_to(f"/proc/self/fd{target}")
    Path("/dev", "shm").mkdir()
    kernel.set_readonly("/dev")
    kernel.mount("tmpfs", "/dev/shm", "tmpfs", _TMPFS, f"mode=1777,size={size_mb}m")  # noqa: S108


def _outermost(paths: Sequence[str]) -> list[str]:
    """The folders, those that contain others first."""
    return sorted(dict.fromkeys(paths), key=lambda path: len(os.path.realpath(path)))


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


def _open_same(folder: str, identity: tuple[int, int], opened: ExitStack) -> int:
    """The job's folder; its user may put something else in its place at any moment, and that is refused."""
    handle = _open(folder, opened)
    facts = os.fstat(handle)
    if (facts.st_dev, facts.st_ino) != identity:
        raise PermissionError(f"{folder} has become another folder")
    return handle


def _by(handle: int) -> str:
    return f"/proc/self/fd/{handle}"
