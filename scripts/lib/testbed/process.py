"""Processes by pid and start time, so that a reused pid is never signalled."""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")


@dataclass(frozen=True)
class Process:
    """One process, by pid and start (clock ticks after boot: proc(5), stat)."""

    pid: int
    started: int

    @property
    def alive(self) -> bool:
        """Whether it runs; a zombie does not."""
        return find(self.pid) == self

    def signal(self, number: signal.Signals) -> bool:
        """Send a signal; False if the process has ended."""
        with _descriptor(self) as descriptor:
            if descriptor is None:
                return False
            try:
                signal.pidfd_send_signal(descriptor, number)
            except ProcessLookupError:
                return False
            return True

    def wait(self, timeout_s: float) -> bool:
        """Wait for its end; False after `timeout_s`."""
        self.lives_until(lambda: False, timeout_s=timeout_s, every_s=timeout_s)
        return not self.alive

    def lives_until(self, ready: Callable[[], bool], *, timeout_s: float, every_s: float = 0.015) -> bool:
        """Wait for `ready`, which is called every `every_s`; False when the process ends, or after `timeout_s`."""
        deadline = time.monotonic() + timeout_s
        with _descriptor(self) as descriptor:
            if descriptor is None:
                return False
            death = select.poll()
            death.register(descriptor, select.POLLIN)
            while not ready():
                left = deadline - time.monotonic()
                if left <= 0 or death.poll(1000 * min(every_s, left)):
                    return False
            return True


@contextmanager
def _descriptor(process: Process) -> Iterator[int | None]:
    """A pidfd of exactly this process, or None."""
    try:
        descriptor = os.pidfd_open(process.pid)
    except ProcessLookupError:
        yield None
        return
    try:
        yield (
            descriptor if process.alive else None
        )  # looked at after opening: what the pidfd holds can't change
    finally:
        os.close(descriptor)


def find(pid: int) -> Process | None:
    """The running process with this pid, or None."""
    try:
        stat = (PROC / str(pid) / "stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = stat.rpartition(")")[2].split()  # the name before may contain anything
    return None if fields[0] in "ZX" else Process(pid, int(fields[19]))


def everything() -> Iterator[Process]:
    """All processes of the host."""
    for entry in PROC.iterdir():
        if entry.name.isdigit() and (process := find(int(entry.name))):
            yield process


def environment(process: Process) -> Mapping[str, str]:
    """The process's initial environment; empty if it has ended or may not be read."""
    try:
        raw = (PROC / str(process.pid) / "environ").read_bytes()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return {}
    pairs = (item.partition("=") for item in raw.decode(errors="replace").split("\0"))
    return {name: value for name, equals, value in pairs if equals}


def name(process: Process) -> str:
    """The name of its program, cut to 15 characters by the kernel; empty if it has ended."""
    try:
        return (PROC / str(process.pid) / "comm").read_text().strip()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def peak_memory_mb(pid: int) -> int:
    """The peak memory of a process (VmHWM)."""
    lines = (line.split() for line in (PROC / str(pid) / "status").read_text().splitlines())
    return next(int(fields[1]) for fields in lines if fields[0] == "VmHWM:") // 1024


def parent(pid: int) -> int:
    """The pid of its parent, or 0."""
    try:
        stat = (PROC / str(pid) / "stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return int(stat.rpartition(")")[2].split()[1])


def with_above(pid: int) -> set[int]:
    """The pids of a process and its ancestors."""
    pids: set[int] = set()
    while pid and pid not in pids:
        pids.add(pid)
        pid = parent(pid)
    return pids


def stop_all(processes: list[Process], timeout_s: float) -> list[Process]:
    """Send SIGTERM, then SIGKILL after `timeout_s`; returns the processes that needed SIGKILL."""
    for process in processes:
        process.signal(signal.SIGTERM)
    deadline = time.monotonic() + timeout_s
    stubborn = [one for one in processes if not one.wait(max(0.0, deadline - time.monotonic()))]
    for process in stubborn:
        process.signal(signal.SIGKILL)
        process.wait(5)
    return stubborn


def await_reaped(pids: list[int], timeout_s: float) -> bool:
    """Wait until init has reaped these processes, so that none is listed as a zombie."""
    deadline = time.monotonic() + timeout_s
    while any((PROC / str(pid)).exists() and find(pid) is None for pid in pids):
        if time.monotonic() > deadline:
            return False  # an init that reaps nobody: some containers have one
        time.sleep(0.02)
    return True


def works_below(process: Process, folder: Path) -> bool:
    """Whether its working folder is this one, or one in it."""
    try:
        here = (PROC / str(process.pid) / "cwd").readlink()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return False
    return here.is_relative_to(folder)
