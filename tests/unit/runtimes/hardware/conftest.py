from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest

from qslurm.runtimes.hardware.hardware_options import HardwareOptions
from qslurm.runtimes.hardware.hardware_runtime import HardwareRuntime
from qslurm.runtimes.health import Health
from qslurm.runtimes.plugin import BackendFacts
from tests.unit.runtimes.hardware.qpu_simulator import Qpu

FACTS = BackendFacts(name="spin", qubits=5, max_shots=10_000, default_shots=100)


@pytest.fixture(scope="session")
def _simulator() -> Iterator[Qpu]:
    qpu = Qpu()
    yield qpu
    qpu.kill()


@pytest.fixture
def qpu(_simulator: Qpu) -> Qpu:
    """A quantum computer as if it had just been switched on."""
    _simulator.renew()
    return _simulator


@pytest.fixture
def make(qpu: Qpu) -> Iterator[Callable[..., HardwareRuntime]]:
    """Makes runtimes for the simulator, opened and looked after until it is heard of (unless `wait` is false)."""
    made: list[HardwareRuntime] = []

    def one(*, wait: bool = True, **options: object) -> HardwareRuntime:
        runtime = HardwareRuntime(FACTS, HardwareOptions(**{**qpu.options, **options}))
        runtime.open()
        made.append(runtime)
        if wait:
            attend_until(runtime, "idle")
        return runtime

    yield one
    for runtime in made:
        runtime.close()


@pytest.fixture
def runtime(make: Callable[..., HardwareRuntime]) -> HardwareRuntime:
    return make()


def attend_until(runtime: HardwareRuntime, state: str, timeout_s: float = 60.0) -> Health:
    """Look after the hardware, as the process of a runtime does, until it is in this state."""
    end = time.monotonic() + timeout_s
    while (health := runtime.attend()).state != state:
        assert time.monotonic() < end, f"not {state} within {timeout_s} s but {health}"
        time.sleep(0.01)
    return health
