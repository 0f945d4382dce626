"""Fixtures of all stories: partition p_qx is enabled, backend qx in service, no jobs are left."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from c2_platform import Platform
from host_lock import host_lock
from testbed import Testbed


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run stories about other releases of Slurm one release after the other: each change takes some seconds."""
    places = [index for index, item in enumerate(items) if _release(item)]
    told = sorted((items[index] for index in places), key=_release)
    for index, item in zip(places, told, strict=True):
        items[index] = item


def _release(item: pytest.Item) -> str:
    callspec = getattr(item, "callspec", None)
    return str(callspec.params.get("c2", "")) if callspec else ""


@pytest.fixture(autouse=True)
def _beside_other_testbeds(request: pytest.FixtureRequest) -> Iterator[None]:
    with host_lock(alone=request.node.get_closest_marker("alone") is not None):
        yield


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(8) as threads:
        yield threads


@pytest.fixture
def platform(testbed: Testbed) -> Platform:
    found = Platform(testbed)
    found.clean()
    return found


@pytest.fixture(scope="session")
def platform_of() -> type[Platform]:
    """Makes the platform of another testbed than the shared one."""
    return Platform
