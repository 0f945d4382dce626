"""Refuses, with the same words for every backend, what a backend cannot execute."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qslurm.errors import CircuitError, InvalidInputError

if TYPE_CHECKING:
    from qslurm.circuits.check import CircuitFacts
    from qslurm.runtimes.interface import BackendType


def refuse_raw_data(known: BackendType) -> None:
    """Raise InvalidInputError if the backend provides no raw data."""
    if not known.supports_raw_data:
        raise InvalidInputError(f"Backend {known.name} provides no raw data.", hint="Request counts only.")


def refuse_too_wide(known: BackendType, facts: CircuitFacts, needed: int, file: str) -> None:
    """Raise CircuitError if a circuit needs more qubits than the backend has.

    `needed` may exceed the qubits that the circuit declares: a value measured before the end is kept in a spare
    qubit.
    """
    if needed > known.nqubits:
        spare = needed - facts.qubits
        more = f" and {spare} more to keep values that are measured before the end" if spare else ""
        raise CircuitError(
            f"{file}: the circuit needs {facts.qubits} qubits{more}; {known.name} has {known.nqubits}.",
            hint="Declare only the qubits that the circuit uses, and measure each at the end.",
        )
