"""Finds the Slurm job of a process by its slurmstepd ancestor, which users cannot forge.

All researchers of a center are one user on C2, so a uid does not say whose job somebody asks about, and a secret would
lie where every other process of that user can read it. What the kernel says of a process, they can't change.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

_DEEPEST = 256  # generations
_STEPD = re.compile(r"slurmstepd: \[(\d+)[.+]")  # "slurmstepd: [12.batch]", as Slurm 22.05 to 26.05 call it
_WATCHER = re.compile(r"job-(\d+)$")


class Ancestor(NamedTuple):
    """An ancestor: its name (`comm`), its command line up to the first argument, whether root owns it."""

    name: str
    title: str
    is_roots: bool


def job_among(ancestors: Iterable[Ancestor]) -> int | None:
    """The job of a process with these ancestors, nearest first; None if it is in no job.

    The outermost counts: what a job starts can call itself anything.
    """
    found = None
    for one in ancestors:
        named = _STEPD.match(one.title) if one.name.startswith("slurmstepd") else _WATCHER.match(one.name)
        if named is not None and one.is_roots:
            found = int(named[1])
    return found


def name_of_watcher(job_id: int) -> str:
    """What a root's process calls itself (`comm`) that has been given a job's step, and is no slurmstepd's child."""
    return f"job-{job_id}"


def job_of(pid: int) -> int | None:
    """The job of a local process; None if it is in no job, or has ended."""
    try:
        return job_among(_ancestors(pid))
    except (OSError, ValueError, IndexError):  # it, or one of them, has ended
        return None


def _ancestors(pid: int) -> Iterator[Ancestor]:
    _, parent, began = _stat(pid)
    for _ in range(_DEEPEST):
        if parent <= 1:
            return
        pid, child_began = parent, began
        name, parent, began = _stat(pid)
        if began > child_began:
            raise ValueError("a parent that is younger is another process")
        if name.startswith("slurmstepd") or _WATCHER.match(name):
            yield Ancestor(name, _title(pid), _is_roots(pid))
    raise ValueError("it has too many ancestors")


def _stat(pid: int) -> tuple[str, int, int]:
    """A process's name, parent and start time (proc(5), /proc/PID/stat)."""
    text = _read(f"/proc/{pid}/stat")
    head, _, rest = text.rpartition(")")
    fields = rest.split()
    return head.partition("(")[2], int(fields[1]), int(fields[19])


def _title(pid: int) -> str:
    return _read(f"/proc/{pid}/cmdline").partition("\0")[0]


def _is_roots(pid: int) -> bool:
    """A program that is set-user-id root has its user's uid as its real one."""
    lines = _read(f"/proc/{pid}/status").splitlines()
    return next(line for line in lines if line.startswith("Uid:")).split()[1:] == ["0"] * 4


def _read(path: str) -> str:
    with open(path, encoding="utf-8", errors="replace") as file:  # noqa: PTH123 -- pathlib takes as long as reading
        return file.read()
