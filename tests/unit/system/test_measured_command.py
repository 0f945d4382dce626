"""A command's CPU time is its own, however many others run."""

from __future__ import annotations

import sys
import threading

import pytest

from qslurm.system.measured_command import run_measured

BUSY = "import time\nwhile time.process_time() < {}: pass"


def test_what_a_command_says_and_how_it_ends() -> None:
    done = run_measured(["sh", "-c", "echo out; echo no >&2; exit 3"], {"PATH": "/usr/bin:/bin"}, 60)
    assert (done.returncode, done.stdout, done.stderr) == (3, b"out\n", b"no\n")


def test_the_cpu_time_of_others_is_not_counted() -> None:
    other = threading.Thread(target=run_measured, args=([sys.executable, "-c", BUSY.format(2)], {}, 600))
    other.start()
    own = run_measured([sys.executable, "-c", BUSY.format(0.2)], {}, 600)
    other.join()
    assert 0.2 <= own.cpu_s < 2


def test_a_command_that_does_not_end_is_killed() -> None:
    with pytest.raises(TimeoutError):
        run_measured(["sleep", "600"], {"PATH": "/usr/bin:/bin"}, 0.05)


def test_a_command_that_is_not_there_is_an_oserror() -> None:
    with pytest.raises(FileNotFoundError):
        run_measured(["/nowhere/squeue"], {}, 60)
