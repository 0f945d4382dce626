"""Processes that outlive the command that started them, named by pid and start time: no other is ever hit."""

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
    """One process. A pid is used again; with its start (clock ticks after boot: proc(5), stat) it is not."""

    pid: int
    started: int

    @property
    def alive(self) -> bool:
        """Is it still running? A zombie is not."""
        return find(self.pid) == self

    def signal(self, number: signal.Signals) -> bool:
        """Send a signal; False if the process is gone."""
        with _descriptor(self) as descriptor:
            if descriptor is None:
                return False
            try:
                signal.pidfd_send_signal(descriptor, number)
            except ProcessLookupError:
                return False
            return True

    def wait(self, timeout_s: float) -> bool:
        """Wait until it is gone; False if it is still there after `timeout_s`."""
        self.lives_until(lambda: False, timeout_s=timeout_s, every_s=timeout_s)
        return not self.alive

    def lives_until(self, ready: Callable[[], bool], *, timeout_s: float, every_s: float = 0.015) -> bool:
        """Wait for `ready`, asked every `every_s`; False when the process dies, or after `timeout_s`."""
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
    """The living process with this pid."""
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
    """What the process was started with; empty when it is gone, or is not ours to read."""
    try:
        raw = (PROC / str(process.pid) / "environ").read_bytes()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return {}
    pairs = (item.partition("=") for item in raw.decode(errors="replace").split("\0"))
    return {name: value for name, equals, value in pairs if equals}


def name(process: Process) -> str:
    """The name of its program, cut at 15 characters by the kernel; empty when it is gone."""
    try:
        return (PROC / str(process.pid) / "comm").read_text().strip()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def peak_memory_mb(pid: int) -> int:
    """The most memory that a process has ever had (VmHWM)."""
    lines = (line.split() for line in (PROC / str(pid) / "status").read_text().splitlines())
    return next(int(fields[1]) for fields in lines if fields[0] == "VmHWM:") // 1024


def parent(pid: int) -> int:
    """The pid of its parent; 0 when there is none."""
    try:
        stat = (PROC / str(pid) / "stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return int(stat.rpartition(")")[2].split()[1])


def with_above(pid: int) -> set[int]:
    """A process and those that started it."""
    pids: set[int] = set()
    while pid and pid not in pids:
        pids.add(pid)
        pid = parent(pid)
    return pids


def stop_all(processes: list[Process], timeout_s: float) -> list[Process]:
    """SIGTERM, then after `timeout_s` SIGKILL; answers those that had to be killed."""
    for process in processes:
        process.signal(signal.SIGTERM)
    deadline = time.monotonic() + timeout_s
    stubborn = [one for one in processes if not one.wait(max(0.0, deadline - time.monotonic()))]
    for process in stubborn:
        process.signal(signal.SIGKILL)
        process.wait(5)
    return stubborn


def await_reaped(pids: list[int], timeout_s: float) -> bool:
    """Wait until init has taken note of the ends of these processes, so that no list shows them as zombies."""
    deadline = time.monotonic() + timeout_s
    while any((PROC / str(pid)).exists() and find(pid) is None for pid in pids):
        if time.monotonic() > deadline:
            return False  # an init that reaps nobody: some containers have one
        time.sleep(0.02)
    return True


def works_below(process: Process, folder: Path) -> bool:
    """Is its working folder this one, or one in it?"""
    try:
        here = (PROC / str(process.pid) / "cwd").readlink()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return False
    return here.is_relative_to(folder)
