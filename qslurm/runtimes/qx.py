"""Executes circuits with the QX emulator, in this process.

QX holds Python's global lock while it computes, and can end its process: use it only in a process that may be
killed.
"""

from __future__ import annotations

import itertools
import os
import random
import re
import time
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import msgspec

from qslurm.errors import CircuitError
from qslurm.runtimes.interface import Outcome, as_shots
from qslurm.runtimes.machine_result import counts_by_bit
from qslurm.runtimes.plugin import BackendFacts
from qslurm.runtimes.simulated_backend import backend_type
from qslurm.system.child_process import limit_memory

if TYPE_CHECKING:
    from qslurm.circuits.check import CircuitFacts

_WARM_UP = "version 3.0; qubit q; bit b; b = measure q"
_MIB = 1 << 20
_LEAST_MEMORY_MIB = 16
_BASE_MEMORY = 1 << 30  # bytes: the largest raw data of one execution, while it is assembled
_BYTES_PER_AMPLITUDE = 320  # QX 0.11 takes 215 at its peak, for a dense state of 17 to 20 qubits
_POSITION = re.compile(r"^Error at .*?:(\d+):(\d+)[\d.]*: (.*)", re.MULTILINE)


class QxOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`memory_mib`: memory that circuits may allocate in one process; 0: as much as the backend's qubits can need."""

    memory_mib: Annotated[int, msgspec.Meta(ge=0)] = 0

    def __post_init__(self) -> None:
        if 0 < self.memory_mib < _LEAST_MEMORY_MIB:
            raise ValueError(f"memory_mib must be 0, or at least {_LEAST_MEMORY_MIB}")


class QxRuntime:
    """The plug-in `qx`: executes circuits in its own process, within a memory limit."""

    Options = QxOptions
    max_workers = 0
    confined = True

    def __init__(self, backend: BackendFacts, options: QxOptions, /) -> None:
        self._memory = options.memory_mib * _MIB or memory_for(backend.qubits)
        self.backend_type = backend_type(
            backend.name,
            qubits=backend.qubits,
            max_shots=backend.max_shots,
            default_shots=backend.default_shots,
        )

    def open(self) -> None:
        """Load everything, so that the first circuit starts fast, and limit memory."""
        simulate(_WARM_UP, 1)
        limit_memory(self._memory)

    def close(self) -> None:
        """Do nothing."""

    def execute(self, circuit: str, shots: int, *, seed: int | None, raw_data: bool, file: str) -> Outcome:
        """See `simulate`."""
        return simulate(circuit, shots, seed=seed, raw_data=raw_data, file=file)


def memory_for(qubits: int) -> int:
    """Bytes that circuits of this many qubits can need, at most three quarters of the host's memory."""
    host = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min(_BASE_MEMORY + (_BYTES_PER_AMPLITUDE << qubits), host * 3 // 4)


def simulate(
    circuit: str, shots: int, *, seed: int | None = None, raw_data: bool = False, file: str = "circuit"
) -> Outcome:
    """Execute a circuit; raises CircuitError with line and column if it is invalid.

    With a seed (any integer) the outcome is the same every time. QX keeps no record of single shots, so raw
    data is obtained by running the shots one by one, each with a seed of its own derived from the given one:
    about 0.2 ms a shot. The counts are then those of the raw data, not those that the same seed gives without
    it.
    """
    from qslurm.circuits.check import check_circuit  # slow to import

    shots = as_shots(shots)
    facts = check_circuit(circuit, file=file)
    started = time.perf_counter()
    strings = _shot_by_shot(facts, shots, seed, file) if raw_data else None
    counts = (
        dict(sorted(Counter(strings).items()))
        if strings is not None
        else _all_at_once(facts, shots, seed, file)
    )
    return Outcome(
        counts=counts,
        raw_data=strings,
        shots_requested=shots,
        shots_done=sum(counts.values()),
        seconds=time.perf_counter() - started,
    )


def _all_at_once(facts: CircuitFacts, shots: int, seed: int | None, file: str) -> dict[str, int]:
    qx_seed = None if seed is None else next(_seeds(seed))
    return counts_by_bit(_run(facts, shots, qx_seed, file).results, facts.readout)


def _shot_by_shot(facts: CircuitFacts, shots: int, seed: int | None, file: str) -> list[str]:
    strings: list[str] = []
    for qx_seed in itertools.islice(_seeds(seed), shots):
        (key,) = _run(facts, 1, qx_seed, file).results
        strings.append(facts.readout.key(key))
    return strings


def _seeds(seed: int | None) -> Iterator[int]:
    """Seeds for QX, derived from the user's: QX takes 63 bits, and crashes on more."""
    stream = random.Random(seed)  # noqa: S311 -- a simulation, no secret
    while True:
        yield stream.getrandbits(63)


def _run(facts: CircuitFacts, shots: int, seed: int | None, file: str) -> Any:
    """QX's result. QX returns its errors instead of raising them; libqasm 1.6 has accepted circuits that QX
    rejects.
    """
    import qxelarator

    result = qxelarator.execute_string(facts.readout.program, iterations=shots, seed=seed)
    if not isinstance(result, qxelarator.SimulationError):
        return result
    if (found := _POSITION.search(result.message)) is not None:
        line, column, message = found.groups()
        raise CircuitError(facts.relocated(f"{file}:{line}:{column}: {message}.", file))
    raise CircuitError(f"{file}: the QX emulator rejected the circuit: {result.message}.")
