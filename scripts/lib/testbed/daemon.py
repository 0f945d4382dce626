"""Starts a daemon that outlives this process, records it, waits until it is ready, and stops it."""

from __future__ import annotations

import hashlib
import json
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from testbed import process
from testbed.command import clean
from testbed.errors import TestbedError
from testbed.layout import MARK, Layout, write
from testbed.process import Process

DAEMON_MARK = "QSLURM_TESTBED_DAEMON"
LONGEST_LOG = 20 * 1024 * 1024
READY_S = 60.0
GRACE_S = 10.0


@dataclass(frozen=True)
class Daemon:
    """How a daemon is started.

    `cluster` is C1 or C2; `ready` tells whether it serves; `after` are the daemons that must be ready before it starts;
    `prepare` runs before it starts, `finish` each time it is ready. It is restarted if a file in `reads` has changed.
    """

    name: str
    cluster: str
    command: tuple[str | Path, ...]
    user: str
    ready: Callable[[], bool]
    after: tuple[str, ...] = ()
    environment: Mapping[str, str] | None = None
    reads: tuple[Path, ...] = ()
    prepare: Callable[[], None] | None = None
    finish: Callable[[], None] | None = None
    every_s: float = 0.015

    def fingerprint(self) -> str:
        """Changes when the daemon would be started differently, or a file that it reads has changed."""
        digest = hashlib.sha256(repr((self.command, self.user, self.environment)).encode())
        for path in self.reads:
            digest.update(path.read_bytes() if path.exists() else b"")
        return digest.hexdigest()


@dataclass(frozen=True)
class Record:
    """A started daemon: its process, the time (Unix seconds), and the fingerprint of how it was started."""

    pid: int
    started: int
    since: float
    fingerprint: str

    @property
    def process(self) -> Process:
        return Process(self.pid, self.started)


def record(layout: Layout, name: str) -> Record | None:
    """The record of a daemon; None if it was not started, or was stopped."""
    path = layout.records / f"{name}.json"
    try:
        return Record(**json.loads(path.read_text()))
    except FileNotFoundError:
        return None


def running(layout: Layout, name: str) -> Process | None:
    """The daemon's process, if it runs."""
    known = record(layout, name)
    return known.process if known and known.process.alive else None


def forget(layout: Layout, name: str) -> None:
    """Remove the record of a daemon that was stopped."""
    (layout.records / f"{name}.json").unlink(missing_ok=True)


def log_of(layout: Layout, name: str) -> Path:
    """The file with the daemon's output."""
    return layout.home / "log" / f"{name}.log"


def start(layout: Layout, daemon: Daemon) -> float | None:
    """Start the daemon unless it runs as described, and wait until it is ready; the seconds this took, or None if it
    ran.
    """
    began = time.monotonic()
    fingerprint = daemon.fingerprint()
    known = record(layout, daemon.name)
    if known and known.process.alive and known.fingerprint == fingerprint:
        _await(layout, daemon, known.process)
        return None
    stop(layout, daemon.name)
    if daemon.prepare:
        daemon.prepare()
    fingerprint = daemon.fingerprint()
    child = _launch(layout, daemon)
    write(
        layout.records / f"{daemon.name}.json",
        json.dumps(
            {"pid": child.pid, "started": child.started, "since": time.time(), "fingerprint": fingerprint}
        ),
    )
    _await(layout, daemon, child)
    return time.monotonic() - began


def _launch(layout: Layout, daemon: Daemon) -> Process:
    log = log_of(layout, daemon.name)
    if log.exists() and log.stat().st_size > LONGEST_LOG:
        log.replace(log.with_suffix(".log.1"))
    log.touch(mode=0o600)
    log.chmod(0o600)  # it names users and their jobs
    pidfile = layout.records / f"{daemon.name}.pid"
    pidfile.unlink(missing_ok=True)
    marks = {MARK: str(layout.folder), DAEMON_MARK: daemon.name}
    program, *arguments = daemon.command
    # makes it a child of init, in a session of its own; nothing it starts is ours to reap
    launched = subprocess.run(
        (
            "start-stop-daemon",
            *("--start", "--background", "--quiet", "--make-pidfile", "--pidfile", pidfile),
            *(
                "--chdir",
                "/",
                "--chuid",
                daemon.user,
                "--output",
                log,
                "--startas",
                program,
                "--",
                *arguments,
            ),
        ),
        env=clean(**{**(daemon.environment or {}), **marks}),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    child = None
    if launched.returncode == 0:
        deadline = time.monotonic() + 5
        while not (pid := _pid_in(pidfile)) and time.monotonic() < deadline:
            time.sleep(0.002)
        child = process.find(pid)
    pidfile.unlink(missing_ok=True)
    if child is None:
        raise _failure(layout, daemon, f"ended at once {launched.stderr.strip()}")
    return child


def _pid_in(pidfile: Path) -> int:
    try:
        return int(pidfile.read_text() or 0)
    except FileNotFoundError:
        return 0


def _await(layout: Layout, daemon: Daemon, child: Process) -> None:
    if not child.lives_until(daemon.ready, timeout_s=READY_S, every_s=daemon.every_s):
        raise _failure(
            layout,
            daemon,
            f"is not ready after {READY_S:.0f} s" if child.alive else "ended before it was ready",
        )
    if daemon.finish:
        daemon.finish()


def _failure(layout: Layout, daemon: Daemon, what: str) -> TestbedError:
    return TestbedError(f"{daemon.name} {what}. {tail(layout, daemon.name)}")


def tail(layout: Layout, name: str, lines: int = 15) -> str:
    """The end of its log, for error messages."""
    path = log_of(layout, name)
    text = path.read_text(errors="replace") if path.exists() else ""
    last = "\n".join(f"    {line}" for line in text.splitlines()[-lines:])
    return f"The end of {path}:\n{last or '    (empty)'}"


def stop(layout: Layout, name: str, *, grace_s: float = GRACE_S) -> bool:
    """Stop it, and processes that an interrupted start left; False if SIGKILL was needed."""
    ours = [known.process] if (known := record(layout, name)) else []
    stubborn = process.stop_all([*ours, *strays(layout, name)], grace_s)
    forget(layout, name)
    return not stubborn


def strays(layout: Layout, name: str) -> list[Process]:
    """Processes of this daemon without a record: their start was interrupted."""
    known = record(layout, name)
    found = []
    for one in process.everything():
        marks = process.environment(one)
        if (marks.get(MARK), marks.get(DAEMON_MARK)) != (str(layout.folder), name):
            continue
        # a slurmstepd has its slurmd's marks, but it is a job, and outlives it
        if not (known and one == known.process) and process.name(one) != "slurmstepd":
            found.append(one)
    return found


def kill(layout: Layout, name: str) -> None:
    """SIGKILL it, as a crash would; its record stays."""
    child = running(layout, name)
    if child is None:
        raise TestbedError(f"{name} is not running.")
    child.signal(signal.SIGKILL)
    if not child.wait(10):
        raise TestbedError(f"{name} (pid {child.pid}) survived SIGKILL.")
