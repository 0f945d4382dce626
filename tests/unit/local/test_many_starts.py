"""`qslurm run` ends, start after start, on a machine that is busy with something else.

A few starts beside real Slurm; `QSLURM_TEST_STARTS=5000` is for once in a while.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.unit.c2.dispatcher.running import BELL
from tests.unit.local.local_runs import run

pytestmark = pytest.mark.slurm  # it needs none, but takes all cores from what does not wait for them

STARTS = int(os.environ.get("QSLURM_TEST_STARTS", "8"))

_AT_ONCE = 4
_FILES = {
    # file, options, and how that ends
    "refused.cq": ("version 3.0\nqubit q\nFoo q\n", (), 2),
    "shots.cq": (BELL, ("--shots", "9999999"), 2),
    "bell.cq": (BELL, ("--shots", "10"), 0),
    "refused.py": (
        f"def execute(qi):\n    qi.execute_circuit({BELL!r}, 10)\n    qi.execute_circuit('version 3.0; Foo q', 10)\n"
        "def finalize(measurements):\n    return {}\n",
        (),
        2,
    ),
}


@pytest.fixture
def burners() -> Iterator[None]:
    """One for each core: nothing is as fast as it is alone."""
    burning = [
        subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(os.cpu_count() or 1)
    ]
    yield
    for one in burning:
        one.kill()
        one.wait()


@pytest.mark.usefixtures("burners")
def test_each_start_ends_as_it_should(tmp_path: Path) -> None:
    for name, (text, _, _) in _FILES.items():
        (tmp_path / name).write_text(text)
    names = list(_FILES)

    def start(number: int) -> None:
        name = names[number % len(names)]
        ended = run(tmp_path / name, *_FILES[name][1])
        assert ended.code == _FILES[name][2], (number, name, ended)

    with ThreadPoolExecutor(_AT_ONCE) as threads:
        started = [threads.submit(start, number) for number in range(STARTS)]
        try:
            for one in started:
                one.result()
        finally:
            threads.shutdown(cancel_futures=True)  # after a failure there is nothing more to learn
