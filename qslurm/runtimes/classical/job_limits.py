"""The limits of one job, and how a job that exceeds them is found.

The kernel's own limits hold for one process. The use of all processes of a job is measured a few times a second
by the first process of the job's PID namespace: it sees them all, and what it has reaped is counted as its own.
"""

from __future__ import annotations

import os
import resource
from pathlib import Path

import msgspec

from qslurm.c2.config.runtimes_section import RuntimesConfig

MB = 1_000_000
CHECK_EVERY_S = 0.2

_COPIED_LIMITS = {
    "Max cpu time": resource.RLIMIT_CPU,
    "Max file size": resource.RLIMIT_FSIZE,
    "Max data size": resource.RLIMIT_DATA,
    "Max stack size": resource.RLIMIT_STACK,
    "Max open files": resource.RLIMIT_NOFILE,
    "Max locked memory": resource.RLIMIT_MEMLOCK,
}
"""Limits that a runtime copies from its step, by their names in /proc/PID/limits."""


class JobUsage(msgspec.Struct, kw_only=True):
    """Current use of all processes of a job, and the bytes written to disk so far."""

    processes: int = 0
    memory: int = 0
    written: int = 0


def exceeded_limit(use: JobUsage, config: RuntimesConfig) -> str:
    """The limit that a job exceeds, as a sentence; "" if none."""
    if use.processes >= config.processes:
        return f"Limit exceeded: the job ran {use.processes} processes at a time; the limit is {config.processes - 1}."
    if use.memory > config.memory_mb * MB:
        return f"Limit exceeded: the job used {use.memory / MB:.0f} MB of memory; {config.memory_mb} MB are allowed."
    if use.written > config.disk_mb * MB:
        return f"Limit exceeded: the job wrote {use.written / MB:.0f} MB to disk; {config.disk_mb} MB are allowed."
    return ""


def usage(exact_above: int, proc: Path = Path("/proc")) -> JobUsage:
    """The use of all processes in /proc except this one (but with what it has reaped).

    Memory is exact if it seems to exceed `exact_above` bytes; below that, memory that processes share is
    counted for each, which is faster.
    """
    own = str(os.getpid())
    others = [process for process in proc.iterdir() if process.name.isdigit() and process.name != own]
    memory = sum(_memory(process) for process in others)
    if memory > exact_above:
        memory = sum(_memory_without_shared(process) for process in others) or memory  # Linux before 4.14
    written = _written(proc / "self") + sum(_written(process) for process in others)
    return JobUsage(processes=len(others), memory=memory, written=written)


def _memory(process: Path) -> int:
    return sum(_numbers(process / "status", ("RssAnon:", "RssShmem:"))) * 1024


def _memory_without_shared(process: Path) -> int:
    return sum(_numbers(process / "smaps_rollup", ("Pss_Anon:", "Pss_Shmem:"))) * 1024


def _written(process: Path) -> int:
    return sum(_numbers(process / "io", ("write_bytes:",)))


def _numbers(file: Path, names: tuple[str, ...]) -> list[int]:
    try:
        lines = [line.split() for line in file.read_text().splitlines()]
    except (FileNotFoundError, ProcessLookupError):  # the process has just ended
        return []
    except PermissionError:
        if _has_ended(file.parent):  # Linux shows a zombie's `io` to root only
            return []
        raise
    return [int(words[1]) for words in lines if words and words[0] in names]


def _has_ended(process: Path) -> bool:
    """Whether a process has released its memory and has no running thread left."""
    try:
        return (
            "VmSize:" not in (process / "status").read_text() and len(list((process / "task").iterdir())) < 2
        )
    except (FileNotFoundError, ProcessLookupError):
        return True


def limits_of(pid: int) -> list[tuple[int, int, int]]:
    """The limits that Slurm (or the user) set for a process: number, soft, hard."""
    found = []
    for line in Path(f"/proc/{pid}/limits").read_text().splitlines():
        if (number := _COPIED_LIMITS.get(line[:26].strip())) is not None:
            soft, hard = (
                resource.RLIM_INFINITY if word == "unlimited" else int(word) for word in line[26:].split()[:2]
            )
            found.append((number, soft, hard))
    return found


def set_limits(limits: list[tuple[int, int, int]]) -> None:
    """Set another process's limits for this one, as far as permitted."""
    for number, soft, hard in limits:
        try:
            resource.setrlimit(number, (soft, hard))
        except ValueError:  # above this process's hard limit, which it may not raise
            maximum = resource.getrlimit(number)[1]
            resource.setrlimit(number, (_lower(soft, maximum), _lower(hard, maximum)))


def _lower(a: int, b: int) -> int:
    return min((value for value in (a, b) if value != resource.RLIM_INFINITY), default=a)


def apply(config: RuntimesConfig, *, has_user_namespace: bool) -> None:
    """Limit this process and its children to what the configuration allows, but never to more than before.

    `has_user_namespace`: processes are counted for this job alone; otherwise the limit would count, and stop,
    the user's other jobs.
    """
    address_space = _address_space() + config.memory_mb * MB
    _lower_limit(resource.RLIMIT_AS, address_space)
    _lower_limit(resource.RLIMIT_FSIZE, config.file_mb * MB)
    _lower_limit(resource.RLIMIT_CORE, 0)
    if has_user_namespace:
        _lower_limit(
            resource.RLIMIT_NPROC, 2 * config.processes
        )  # threads count here, too; `exceeded_limit` comes first


def _lower_limit(number: int, value: int) -> None:
    _, hard = resource.getrlimit(number)
    value = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(number, (value, value))


def _address_space() -> int:
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
