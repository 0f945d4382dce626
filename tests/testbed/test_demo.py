"""The demo stops what it has started, however it ends, and nothing else."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from demo.clusters import Researcher
from demo.demo_lock import demo_lock
from testbed import Testbed
from testbed.layout import CHECKOUT

pytestmark = pytest.mark.slurm

LITTLE = ["munged-c1"]
"""As much of a testbed as these tests need."""

DEMO = f"""
import sys, time
from demo.demo_lock import demo_lock
from testbed import Testbed
testbed = Testbed(sys.argv[1])
try:
    with demo_lock(testbed, keep=False):
        testbed.up({LITTLE})
        print("up", flush=True)
        time.sleep(60)
except KeyboardInterrupt:
    print("interrupted")
"""


def demo(testbed: Testbed) -> subprocess.Popen[str]:
    """Another process in the middle of its demo."""
    process = subprocess.Popen(
        [sys.executable, "-c", DEMO, testbed.name],
        env=os.environ | {"PYTHONPATH": str(CHECKOUT / "scripts" / "lib")},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    assert process.stdout.readline() == "up\n"
    return process


def test_what_was_up_before_stays(other: Testbed) -> None:
    other.up(LITTLE)
    with demo_lock(other, keep=False) as stays:
        assert stays
    assert other.pid("munged-c1")


def test_what_the_demo_brought_up_is_taken_down(other: Testbed) -> None:
    with demo_lock(other, keep=False) as stays:
        other.up(LITTLE)
        assert not stays
    assert not other.pid("munged-c1")


def test_what_a_killed_demo_left_up_is_taken_down_by_the_next(other: Testbed) -> None:
    with demo(other) as process:
        process.kill()
    assert other.pid("munged-c1")
    with demo_lock(other, keep=False) as stays:
        assert not stays
    assert not other.pid("munged-c1")


@pytest.fixture
def hung_up() -> Iterator[None]:
    """A closed terminal ends what is started, also if it does not end these tests, under nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupted_demo_takes_everything_down_though_interrupted_again(
    other: Testbed, number: signal.Signals, hung_up: None
) -> None:
    with demo(other) as process:
        assert process.stdout
        process.send_signal(number)
        for _ in range(20):
            process.send_signal(number)
        assert process.stdout.read() == "interrupted\n"
    assert process.returncode == 0
    assert not other.pid("munged-c1")


def test_a_link_in_a_researchers_home_leads_the_demo_nowhere(testbed: Testbed, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("precious")
    researcher = Researcher(testbed, "qs_alice")
    (researcher.folder / "link.sbatch").symlink_to(precious)
    written = researcher.write("link.sbatch", "#!/bin/bash\n")
    assert (precious.read_text(), written.read_text()) == ("precious", "#!/bin/bash\n")
    assert written.owner() == "qs_alice"
    written.unlink()
