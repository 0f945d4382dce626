"""What one job may use, and how it is noticed that it uses more.

The kernel's own limits hold for one process. What a job's processes use together is looked at a few times a second, by
the first process of the job's process namespace: it sees them all, and what it reaps is counted as its own.
"""

from __future__ import annotations

import os
import resource
from pathlib import Path

import msgspec

from qslurm.c2.config.runtimes_section import RuntimesConfig

MB = 1_000_000
LOOK_EVERY_S = 0.2

_PLAIN = {
    "Max cpu time": resource.RLIMIT_CPU,
    "Max file size": resource.RLIMIT_FSIZE,
    "Max data size": resource.RLIMIT_DATA,
    "Max stack size": resource.RLIMIT_STACK,
    "Max open files": resource.RLIMIT_NOFILE,
    "Max locked memory": resource.RLIMIT_MEMLOCK,
}
"""Limits that a runtime takes over from its step, by their names in /proc/PID/limits."""


class Use(msgspec.Struct, kw_only=True):
    """What all processes of a job use at the moment, and have written to disks so far (bytes)."""

    processes: int = 0
    memory: int = 0
    written: int = 0


def excess(use: Use, config: RuntimesConfig) -> str:
    """Which limit a job has gone beyond, as a sentence; empty if none."""
    if use.processes >= config.processes:
        return f"Limit exceeded: the job ran {use.processes} processes at a time; the limit is {config.processes - 1}."
    if use.memory > config.memory_mb * MB:
        return f"Limit exceeded: the job used {use.memory / MB:.0f} MB of memory; {config.memory_mb} MB are allowed."
    if use.written > config.disk_mb * MB:
        return f"Limit exceeded: the job wrote {use.written / MB:.0f} MB to disk; {config.disk_mb} MB are allowed."
    return ""


def look(enough: int, proc: Path = Path("/proc")) -> Use:
    """What the processes that /proc shows use, without this one (but with what it has reaped).

    Memory is exact where it seems to be more than `enough` bytes; below, what processes share is counted
    for each, which is quicker.
    """
    own = str(os.getpid())
    others = [process for process in proc.iterdir() if process.name.isdigit() and process.name != own]
    memory = sum(_memory(process) for process in others)
    if memory > enough:
        memory = sum(_memory_without_shared(process) for process in others) or memory  # Linux before 4.14
    written = _written(proc / "self") + sum(_written(process) for process in others)
    return Use(processes=len(others), memory=memory, written=written)


def _memory(process: Path) -> int:
    return sum(_numbers(process / "status", ("RssAnon:", "RssShmem:"))) * 1024


def _memory_without_shared(process: Path) -> int:
    return sum(_numbers(process / "smaps_rollup", ("Pss_Anon:", "Pss_Shmem:"))) * 1024


def _written(process: Path) -> int:
    return sum(_numbers(process / "io", ("write_bytes:",)))


def _numbers(file: Path, names: tuple[str, ...]) -> list[int]:
    try:
        lines = [line.split() for line in file.read_text().splitlines()]
    except (FileNotFoundError, ProcessLookupError):  # it has just ended
        return []
    except PermissionError:
        if _has_ended(file.parent):  # Linux refuses `io` of a zombie to all but root
            return []
        raise
    return [int(words[1]) for words in lines if words and words[0] in names]


def _has_ended(process: Path) -> bool:
    """Whether a process has given up its memory, and has no thread left that could go on."""
    try:
        return (
            "VmSize:" not in (process / "status").read_text() and len(list((process / "task").iterdir())) < 2
        )
    except (FileNotFoundError, ProcessLookupError):
        return True


def of_process(pid: int) -> list[tuple[int, int, int]]:
    """The limits that Slurm (or its user) set for a process: number, soft, hard."""
    found = []
    for line in Path(f"/proc/{pid}/limits").read_text().splitlines():
        if (number := _PLAIN.get(line[:26].strip())) is not None:
            soft, hard = (
                resource.RLIM_INFINITY if word == "unlimited" else int(word) for word in line[26:].split()[:2]
            )
            found.append((number, soft, hard))
    return found


def take_over(given: list[tuple[int, int, int]]) -> None:
    """Have the limits that another process has, as far as this one may."""
    for number, soft, hard in given:
        try:
            resource.setrlimit(number, (soft, hard))
        except ValueError:  # above what it has itself, and it may not raise that
            most = resource.getrlimit(number)[1]
            resource.setrlimit(number, (_less(soft, most), _less(hard, most)))


def _less(one: int, other: int) -> int:
    return min((value for value in (one, other) if value != resource.RLIM_INFINITY), default=one)


def apply(config: RuntimesConfig, *, own_count: bool) -> None:
    """Limit this process, and all it will start, to what the configuration allows, but to no more than before.

    `own_count` says that processes are counted for this job alone (it has a user namespace of its own);
    without that the limit would count, and stop, the user's other jobs.
    """
    room = _address_space() + config.memory_mb * MB
    _at_most(resource.RLIMIT_AS, room)
    _at_most(resource.RLIMIT_FSIZE, config.file_mb * MB)
    _at_most(resource.RLIMIT_CORE, 0)
    if own_count:
        _at_most(
            resource.RLIMIT_NPROC, 2 * config.processes
        )  # threads count here, too; looking finds it first


def _at_most(number: int, value: int) -> None:
    _, hard = resource.getrlimit(number)
    value = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(number, (value, value))


def _address_space() -> int:
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
