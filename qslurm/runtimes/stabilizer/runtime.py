"""The quantum runtime `stabilizer`: emulates Clifford circuits."""

from __future__ import annotations

import time

import msgspec

from qslurm.circuits.operations import checked_circuit
from qslurm.errors import CircuitError
from qslurm.runtimes.emulated_outcome import emulated_outcome
from qslurm.runtimes.interface import Outcome, as_shots
from qslurm.runtimes.plugin import BackendFacts
from qslurm.runtimes.simulated_backend import GATESET
from qslurm.runtimes.stabilizer.simulation import NotCliffordError, sample


class StabilizerOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """There is nothing to set."""


class StabilizerRuntime:
    """The plug-in `stabilizer`, on stim."""

    Options = StabilizerOptions
    max_workers = 0
    confined = True

    def __init__(self, backend: BackendFacts, _options: StabilizerOptions, /) -> None:
        self.backend_type = backend.backend_type(
            gateset=GATESET, description="stabilizer emulator (stim): Clifford circuits only"
        )

    def open(self) -> None:
        """Load stim, and numpy with it."""
        import numpy  # noqa: F401
        import stim  # noqa: F401

    def close(self) -> None:
        """Nothing is held."""

    def execute(self, circuit: str, shots: int, *, seed: int | None, raw_data: bool, file: str) -> Outcome:
        """See `simulate`."""
        return simulate(circuit, shots, seed=seed, raw_data=raw_data, file=file)


def simulate(
    circuit: str, shots: int, *, seed: int | None = None, raw_data: bool = False, file: str = "circuit"
) -> Outcome:
    """Execute a circuit of Clifford gates; any other is a CircuitError.

    The same seed gives the same outcome with the same version of stim on processors with the same vector unit.
    """
    shots = as_shots(shots)
    operations = checked_circuit(circuit, file)
    started = time.perf_counter()
    try:
        samples = list(sample(operations, shots, None if seed is None else seed % (1 << 63)))
    except NotCliffordError as error:
        raise CircuitError(
            f"{file}: the circuit has gates outside the Clifford group, which a stabilizer emulator cannot execute.",
            hint="Use a state vector emulator.",
        ) from error
    return emulated_outcome(samples, seed, raw_data=raw_data, seconds=time.perf_counter() - started)
