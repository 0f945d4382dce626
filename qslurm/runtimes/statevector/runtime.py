"""The quantum runtime `statevector`: emulates circuits of any gates, as large as the memory allows."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Annotated

import msgspec

from qslurm.circuits.operations import checked_circuit
from qslurm.errors import CircuitError
from qslurm.runtimes.emulated_outcome import emulated_outcome
from qslurm.runtimes.interface import Outcome, as_shots
from qslurm.runtimes.plugin import BackendFacts
from qslurm.runtimes.simulated_backend import GATESET
from qslurm.runtimes.statevector.simulation import memory_needed, qubits_needed, sample

_MIB = 1 << 20
_STATES = 64
"""States that one execution keeps for shots that measured something else on the way, if the memory allows."""
_THREADS_FROM_QUBITS = "16"


class StatevectorOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`memory_mib`: what one circuit may take; 0: three quarters of what the host has free when it begins.

    `threads`: what one circuit may use at a time; 0: the CPUs that this process may use.
    """

    memory_mib: Annotated[int, msgspec.Meta(ge=0)] = 0
    threads: Annotated[int, msgspec.Meta(ge=0)] = 0


class StatevectorRuntime:
    """The plug-in `statevector`, on qulacs."""

    Options = StatevectorOptions
    max_workers = 0
    confined = True

    def __init__(self, backend: BackendFacts, options: StatevectorOptions, /) -> None:
        self._options = options
        self.backend_type = backend.backend_type(
            gateset=GATESET, description="state vector emulator (qulacs)"
        )

    def open(self) -> None:
        """Load qulacs with as many threads as it may use."""
        load(self._options.threads)

    def close(self) -> None:
        """Nothing is held."""

    def execute(self, circuit: str, shots: int, *, seed: int | None, raw_data: bool, file: str) -> Outcome:
        """See `simulate`."""
        memory = self._options.memory_mib * _MIB or None
        return simulate(circuit, shots, seed=seed, raw_data=raw_data, file=file, memory=memory)


def load(threads: int = 0) -> None:
    """Import qulacs. It reads the number of threads once; those that have nothing to do should not spin."""
    os.environ["OMP_WAIT_POLICY"] = "passive"
    os.environ["QULACS_NUM_THREADS"] = os.environ["OMP_NUM_THREADS"] = str(
        threads or len(os.sched_getaffinity(0))
    )
    os.environ["QULACS_PARALLEL_NQUBIT_THRESHOLD"] = _THREADS_FROM_QUBITS
    import qulacs  # noqa: F401


def simulate(
    circuit: str,
    shots: int,
    *,
    seed: int | None = None,
    raw_data: bool = False,
    file: str = "circuit",
    memory: int | None = None,
) -> Outcome:
    """Execute a circuit; with a seed (any integer) the outcome is the same every time.

    A circuit that isn't valid, or needs more than `memory` bytes (by default three quarters of what the host has free),
    is a CircuitError.
    """
    shots = as_shots(shots)
    operations = checked_circuit(circuit, file)
    qubits = qubits_needed(operations)
    limit = free_memory() * 3 // 4 if memory is None else memory
    if (needed := memory_needed(qubits)) > limit:
        raise CircuitError(
            f"{file}: {qubits} qubits need {_size(needed)} of memory; {_size(limit)} are available.",
            hint="Use fewer qubits, or a backend with more memory.",
        )
    started = time.perf_counter()
    states = min(_STATES, max(0, (limit - needed) // (needed // 2)))
    samples = list(sample(operations, shots, seed, states=states))
    return emulated_outcome(samples, seed, raw_data=raw_data, seconds=time.perf_counter() - started)


def free_memory() -> int:
    """Bytes that programs on this host can still take."""
    with Path("/proc/meminfo").open(encoding="ascii") as file:
        for line in file:
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    raise OSError("/proc/meminfo has no MemAvailable")


def _size(number: int) -> str:
    return f"{number / (1 << 30):.3g} GiB" if number >= 1 << 30 else f"{number / _MIB:.3g} MiB"
