from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

# Importing it would take 0.6 s, in each process of tests.
if importlib.util.find_spec("compute_api_client") is None:
    pytest.skip("needs Quantum Inspire's official client", allow_module_level=True)

from qslurm.runtimes.plugin import BackendFacts
from qslurm.runtimes.quantum_inspire.quantum_inspire_options import QuantumInspireOptions
from qslurm.runtimes.quantum_inspire.quantum_inspire_runtime import QuantumInspireRuntime
from tests.unit.runtimes.quantum_inspire.official import Official
from tests.unit.runtimes.quantum_inspire.platform import BACKEND, Platform
from tests.unit.waiting import until

FACTS = BackendFacts(name="qi", qubits=10, max_shots=10_000, default_shots=100)


@pytest.fixture(scope="module")
def shared_platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    platform = Platform(tmp_path_factory.mktemp("platform"))
    yield platform
    platform.close()


@pytest.fixture
def platform(shared_platform: Platform) -> Platform:
    shared_platform.new()
    return shared_platform


@pytest.fixture
def credentials(platform: Platform, tmp_path: Path) -> Path:
    return platform.credentials(tmp_path / "credentials.json")


def open_runtime(credentials: Path, **options: object) -> QuantumInspireRuntime:
    usual = {
        "credentials": str(credentials), "backend_type": BACKEND, "request_timeout_s": 30.0,
        "status_every_s": 0.01, "poll_s": 0.05,
    }  # fmt: skip
    runtime = QuantumInspireRuntime(FACTS, QuantumInspireOptions(**{**usual, **options}))  # type: ignore[arg-type]
    runtime.open()
    return runtime


@pytest.fixture
def make(credentials: Path) -> Iterator[Callable[..., QuantumInspireRuntime]]:
    """Makes runtimes for the platform, opened."""
    made: list[QuantumInspireRuntime] = []

    def one(**options: object) -> QuantumInspireRuntime:
        made.append(open_runtime(credentials, **options))
        return made[-1]

    yield one
    for runtime in made:
        runtime.close()


@pytest.fixture(scope="module")
def shared_runtime(
    shared_platform: Platform, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[QuantumInspireRuntime]:
    runtime = open_runtime(shared_platform.credentials(tmp_path_factory.mktemp("keys") / "credentials.json"))
    yield runtime
    runtime.close()


@pytest.fixture
def runtime(platform: Platform, shared_runtime: QuantumInspireRuntime) -> QuantumInspireRuntime:
    """One for all tests that need nothing special: each begins when it finds the platform well."""
    del platform
    until(lambda: shared_runtime.attend().ready)
    return shared_runtime


@pytest.fixture(scope="module")
def shared_official(
    shared_platform: Platform, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Official]:
    official = Official(shared_platform.credentials(tmp_path_factory.mktemp("keys") / "credentials.json"))
    yield official
    official.close()


@pytest.fixture
def official(platform: Platform, shared_official: Official) -> Official:
    del platform
    return shared_official
