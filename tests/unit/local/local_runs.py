"""`qslurm run` as a process, and the processes that it has started."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from dataclasses import dataclass
from pathlib import Path

from tests.unit.c2.dispatcher.running import ROOT, is_gone
from tests.unit.waiting import until

_MARK = "QSLURM_TEST_RUN"
ENDS_S = 300.0
"""What takes longer has not ended: no test is as slow as that, whatever else the machine does."""


@dataclass(frozen=True)
class Ended:
    code: int
    stdout: str
    stderr: str

    @property
    def sentence(self) -> str:
        """What it said last; a traceback is none."""
        assert "Traceback" not in self.stderr, self.stderr
        return self.stderr.strip().rsplit("\n", 1)[-1]


def environment(mark: str, **more: str) -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(ROOT), _MARK: mark} | more


def run(*words: str | Path, shell: str = "", **more: str) -> Ended:
    """Run `qslurm run` to its end, after these lines of a shell; none of its processes may be left."""
    mark = uuid.uuid4().hex
    command = [sys.executable, "-m", "qslurm", "run", *map(str, words)]
    if shell:
        command = ["bash", "-c", shell.format(run='"$@"'), "bash", *command]
    done = subprocess.run(
        command,
        env=environment(mark, **more),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=ENDS_S,
        check=False,
    )
    nothing_is_left(mark)
    return Ended(done.returncode, done.stdout, done.stderr)


def nothing_is_left(mark: str) -> None:
    until(lambda: not _processes(mark))


def _processes(mark: str) -> list[int]:
    wanted, found = f"{_MARK}={mark}".encode(), []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            there = wanted in path.read_bytes().split(b"\0")
        except OSError:
            continue
        if there and not is_gone(int(path.parent.name)):
            found.append(int(path.parent.name))
    return found
