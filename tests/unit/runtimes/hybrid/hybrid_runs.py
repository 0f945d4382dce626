"""Runs hybrid files with QX, in this process."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from qslurm.errors import UnreachableError
from qslurm.runtimes.hybrid.hybrid_file import run_hybrid
from qslurm.runtimes.interface import BackendType, Outcome
from qslurm.runtimes.qx import simulate
from qslurm.runtimes.simulated_backend import backend_type

COIN = "version 3.0; qubit q; bit b; H q; b = measure q"


class Local:
    """A transport that executes with QX in this process."""

    def __init__(self) -> None:
        self.backend_type: BackendType = backend_type("qx", qubits=26, max_shots=10**6, default_shots=50)

    def execute(self, circuit: str, number_of_shots: int, raw_data: bool) -> Outcome:
        return simulate(circuit, number_of_shots, seed=1, raw_data=raw_data)

    def execute_many(
        self, circuits: Iterable[str], number_of_shots: int, raw_data: bool
    ) -> Iterator[Outcome]:
        return (self.execute(circuit, number_of_shots, raw_data) for circuit in circuits)


class Unreachable(Local):
    def execute(self, circuit: str, number_of_shots: int, raw_data: bool) -> Outcome:
        raise UnreachableError("The dispatcher does not answer.", hint="Try again.")


def run(source: str, *, shots: int | None = None) -> dict[str, Any]:
    return run_hybrid(source.replace("COIN", repr(COIN)), "algorithm.py", Local(), shots=shots)
