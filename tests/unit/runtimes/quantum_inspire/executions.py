"""Circuits executed by the runtime `quantuminspire`."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from _pytest.mark.structures import ParameterSet

from qslurm.runtimes.health import TryLaterError
from qslurm.runtimes.interface import Outcome
from qslurm.runtimes.quantum_inspire.quantum_inspire_runtime import QuantumInspireRuntime
from tests.unit.waiting import until

BELL = "version 3.0; qubit[2] q; bit[2] b; H q[0]; CNOT q[0], q[1]; b = measure q"
ENQUEUE = r"PATCH /batch_jobs/\d+/enqueue"
FOR_EVER = 10**9

Make = Callable[..., QuantumInspireRuntime]

LONG = pytest.mark.slurm  # it needs none, but takes as long as if it did


def each_with_each(requests: list[str], faults: list[str]) -> list[ParameterSet]:
    """All pairs; in every run each fault of some request, in turn."""
    return [
        pytest.param(request, what, marks=[] if (of + number) % len(requests) == 0 else LONG)
        for of, request in enumerate(requests)
        for number, what in enumerate(faults)
    ]


def execute(
    runtime: QuantumInspireRuntime, circuit: str = BELL, shots: int = 100, *, raw_data: bool = False
) -> Outcome:
    return runtime.execute(circuit, shots, seed=None, raw_data=raw_data, file="bell.cq")


def execute_at_last(runtime: QuantumInspireRuntime) -> Outcome:
    """As the dispatcher does it: a circuit that was not begun is given back when the platform is ready again."""
    while True:
        try:
            return execute(runtime)
        except TryLaterError as error:
            assert not error.begun
        until(lambda: runtime.attend().ready)
