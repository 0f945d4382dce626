"""A dispatcher of one's own, for the tests that want a real one."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.dispatcher.running import Running


@pytest.fixture
def home() -> Iterator[Path]:
    """A folder with a short path that nobody else can enter."""
    folder = Path(tempfile.mkdtemp(prefix="qs-", dir="/dev/shm"))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def shared() -> Iterator[Running]:
    """One dispatcher for all tests of a module that leave it in health."""
    folder = Path(tempfile.mkdtemp(prefix="qs-", dir="/dev/shm"))
    with Running(folder) as running:
        yield running.ready()
    shutil.rmtree(folder)
