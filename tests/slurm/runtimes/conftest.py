"""Hybrid jobs on C2, with and without the service of warm runtimes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from c2_platform import Platform
from hybrid_jobs import HybridJobs


@pytest.fixture
def jobs(platform: Platform) -> HybridJobs:
    return HybridJobs(platform)


@pytest.fixture(params=["warm", "cold"])
def either(request: pytest.FixtureRequest, jobs: HybridJobs) -> Iterator[HybridJobs]:
    """With the service, and without it."""
    if request.param == "cold":
        jobs.platform.testbed.stop("runtimes")
    yield jobs
    if request.param == "cold":
        jobs.platform.testbed.start("runtimes")
