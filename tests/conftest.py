"""What all tests share: two real Slurm clusters, for those marked `slurm`."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import pytest
from testbed import Testbed, TestbedError, base
from testbed.layout import CHECKOUT

INSTANCE = os.environ.get("QSLURM_TEST_INSTANCE", "test") + os.environ.get("PYTEST_XDIST_WORKER", "")
"""Runs at the same time, and the processes of one run, need instances of different names."""

SLURM = os.environ.get("QSLURM_TEST_SLURM") or None
"""A release, or the folder of an installed Slurm, that C2 runs; the one it ran last unless it is set."""

# What is compiled once is not compiled again, here and in the many processes that tests start, whatever the environment
# says; and it is kept where everything else is that tests leave behind.
sys.dont_write_bytecode = False
sys.pycache_prefix = str(CHECKOUT / ".state" / "cache" / "python")
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
os.environ["PYTHONPYCACHEPREFIX"] = sys.pycache_prefix


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    _choose_examples()
    if not config.option.basetemp:
        # short, since there are sockets in it, and gone at the end: nothing may be left outside .state
        config.option.basetemp = tempfile.mkdtemp(prefix="qslurm-tests-")
        config.add_cleanup(lambda: shutil.rmtree(config.option.basetemp, ignore_errors=True))
    signal.signal(signal.SIGTERM, _end_as_if_interrupted)
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        # a shell starts programs in the background so, and what we start would be deaf to Ctrl-C as well
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_unconfigure(config: pytest.Config) -> None:
    """Ctrl-C ends the processes of a parallel run with their testbeds up: the one that began them cleans up."""
    if os.geteuid() == 0 and config.getoption("numprocesses", None):
        for left in (CHECKOUT / ".state" / "testbed").glob(f"{INSTANCE}gw*"):
            Testbed(left.name).down()


def _choose_examples() -> None:
    """No test may depend on how fast something is, nor fail by chance for somebody who changed something else.

    For other examples than the usual ones: pytest --hypothesis-profile=explore
    """
    from hypothesis import HealthCheck, settings  # when what it is compiled to is kept
    from hypothesis.configuration import set_hypothesis_home_dir

    set_hypothesis_home_dir(CHECKOUT / ".state" / "cache" / "hypothesis")
    usual = {"derandomize": True, "deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
    settings.register_profile(
        "usual", max_examples=50, **usual
    )  # always the same: more of them say little more
    settings.register_profile("explore", settings.get_profile("usual"), derandomize=False, max_examples=1000)
    settings.load_profile("usual")


def _end_as_if_interrupted(number: int, frame: FrameType | None) -> NoReturn:
    """Fixtures then take down what they brought up, as after Ctrl-C."""
    raise KeyboardInterrupt


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if os.geteuid() != 0:
        for item in items:
            if item.get_closest_marker("slurm"):
                item.add_marker(pytest.mark.skip(reason="needs root"))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Each process has a part of its own, and takes of another's when it is done: what a module shares is made once."""
    from xdist.scheduler import WorkStealingScheduling

    return WorkStealingScheduling(config, log) if config.option.dist == "load" else None


@pytest.fixture(scope="session")
def open_checkout() -> Iterator[Path]:
    """The checkout by a path that every user can reach, also where it lies below /root."""
    path = base.choose(CHECKOUT, INSTANCE)
    base.bind(CHECKOUT, path)
    yield path
    base.release(CHECKOUT, path)


@pytest.fixture(scope="session")
def open_python(open_checkout: Path) -> Path:
    """This Python by a path that every user can reach."""
    python = Path(sys.executable)
    return open_checkout / python.relative_to(CHECKOUT) if python.is_relative_to(CHECKOUT) else python


@pytest.fixture(scope="session")
def test_instance() -> str:
    """The name of this process's testbed; of others that it brings up, the beginning."""
    return INSTANCE


@pytest.fixture(scope="session")
def shared_testbed() -> Iterator[Testbed]:
    """Both clusters, up once for all tests of the run; ask for `testbed` instead."""
    testbed = Testbed(INSTANCE, slurm=SLURM)
    lock = Path(testbed.layout.state) / f"tests-{INSTANCE}.lock"
    with lock.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise TestbedError(
                f"Another run of the tests has the testbed {INSTANCE!r}: wait, or set QSLURM_TEST_INSTANCE."
            ) from error
        testbed.down()  # what a killed run left
        with testbed:
            yield testbed


@pytest.fixture
def testbed(shared_testbed: Testbed) -> Testbed:
    """Both clusters, complete: what the test before has killed or stopped is up again."""
    if not shared_testbed.is_up():
        shared_testbed.up()
    return shared_testbed
