"""The description of a backend that executes all of cQASM 3.0, for hybrid files and for Quantum Inspire's clients."""

from __future__ import annotations

from qslurm.circuits.analysis import GATES, INSTRUCTIONS
from qslurm.runtimes.interface import BackendType

GATESET = [name for name in [*GATES, *INSTRUCTIONS] if name not in {"Rn", "U", "Z90", "mZ90"}]
"""The names that Quantum Inspire's own backends use: its Qiskit plugin warns about unknown names, and without
the name of an instruction (even measurement) it transpiles to nothing.
"""


def backend_type(
    name: str, *, qubits: int, max_shots: int, default_shots: int, time_limit_s: float = 0.0
) -> BackendType:
    """The description of a backend that the QX emulator serves."""
    return BackendType(
        name=name,
        identifier=name,
        description="QX emulator",
        nqubits=qubits,
        gateset=GATESET,
        max_number_of_shots=max_shots,
        default_number_of_shots=default_shots,
        job_execution_time_limit=time_limit_s,
    )
