"""Runs a command and measures its CPU time."""

from __future__ import annotations

import os
import select
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import BinaryIO


@dataclass(frozen=True)
class Finished:
    """The result of a command."""

    returncode: int
    stdout: bytes
    stderr: bytes
    cpu_s: float


def run_measured(command: Sequence[str], environ: Mapping[str, str], timeout_s: float) -> Finished:
    """Run a command with empty standard input. After `timeout_s` it is killed, with TimeoutError."""
    # Output goes to memory files, not pipes, so that waiting for the end is enough; wait4 returns the CPU time.
    with _in_memory("stdout") as stdout, _in_memory("stderr") as stderr:
        process = subprocess.Popen(
            command, env=environ, stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr
        )
        try:
            _wait(process.pid, timeout_s)
        except BaseException:
            process.kill()
            process.wait()
            raise
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)  # so that Popen does not wait again
        return Finished(process.returncode, _content(stdout), _content(stderr), used.ru_utime + used.ru_stime)


def _wait(pid: int, timeout_s: float) -> None:
    ended = os.pidfd_open(pid)
    try:
        if not select.select([ended], [], [], timeout_s)[0]:
            raise TimeoutError(f"process {pid} has not ended within {timeout_s:g} s")
    finally:
        os.close(ended)


def _in_memory(name: str) -> BinaryIO:
    return os.fdopen(os.memfd_create(name), "w+b")


def _content(file: BinaryIO) -> bytes:
    file.seek(0)
    return file.read()
