"""Finds the Slurm job of a process by its slurmstepd ancestor, which users cannot forge.

All researchers of a center are one user on C2: a uid does not identify a job, and a secret could be read by the user's
other processes. Users cannot change what the kernel reports of a process.
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

    The outermost counts, because a job's processes can set their names.
    """
    found = None
    for one in ancestors:
        named = _STEPD.match(one.title) if one.name.startswith("slurmstepd") else _WATCHER.match(one.name)
        if named is not None and one.is_roots:
            found = int(named[1])
    return found


def name_of_watcher(job_id: int) -> str:
    """The name (`comm`) of a root process that runs a job's step without being slurmstepd's child."""
    return f"job-{job_id}"


def job_of(pid: int) -> int | None:
    """The job of a local process; None if it is in no job, or has ended."""
    try:
        return job_among(_ancestors(pid))
    except (OSError, ValueError, IndexError):  # the process, or an ancestor, has ended
        return None


def _ancestors(pid: int) -> Iterator[Ancestor]:
    _, parent, began = _stat(pid)
    for _ in range(_DEEPEST):
        if parent <= 1:
            return
        pid, child_began = parent, began
        name, parent, began = _stat(pid)
        if began > child_began:
            raise ValueError("the parent is younger: its pid was reused")
        if name.startswith("slurmstepd") or _WATCHER.match(name):
            yield Ancestor(name, _title(pid), _is_roots(pid))
    raise ValueError("too many ancestors")


def _stat(pid: int) -> tuple[str, int, int]:
    """A process's name, parent and start time (proc(5), /proc/PID/stat)."""
    text = _read(f"/proc/{pid}/stat")
    head, _, rest = text.rpartition(")")
    fields = rest.split()
    return head.partition("(")[2], int(fields[1]), int(fields[19])


def _title(pid: int) -> str:
    return _read(f"/proc/{pid}/cmdline").partition("\0")[0]


def _is_roots(pid: int) -> bool:
    """Whether all its uids are 0: a set-user-id root program has its user's real uid."""
    lines = _read(f"/proc/{pid}/status").splitlines()
    return next(line for line in lines if line.startswith("Uid:")).split()[1:] == ["0"] * 4


def _read(path: str) -> str:
    with open(path, encoding="utf-8", errors="replace") as file:  # noqa: PTH123 -- pathlib takes as long as reading
        return file.read()
