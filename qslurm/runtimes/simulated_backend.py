"""How a backend that executes all of cQASM 3.0 is described to hybrid files and to Quantum Inspire's clients."""

from __future__ import annotations

from qslurm.circuits.analysis import GATES, INSTRUCTIONS
from qslurm.runtimes.interface import BackendType

_GATESET = [name for name in [*GATES, *INSTRUCTIONS] if name not in {"Rn", "U", "Z90", "mZ90"}]
"""As Quantum Inspire's own backends name theirs: its Qiskit plugin complains of names that it doesn't know, and
transpiles to nothing (no measurement even) that isn't named.
"""


def backend_type(
    name: str, *, qubits: int, max_shots: int, default_shots: int, time_limit_s: float = 0.0
) -> BackendType:
    """What is told of a backend that the QX emulator serves."""
    return BackendType(
        name=name,
        identifier=name,
        description="QX emulator",
        nqubits=qubits,
        gateset=_GATESET,
        max_number_of_shots=max_shots,
        default_number_of_shots=default_shots,
        job_execution_time_limit=time_limit_s,
    )
