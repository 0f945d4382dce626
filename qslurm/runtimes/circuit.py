"""Is this a circuit that can be executed, and what does it measure? Reads cQASM 3.0 with libqasm."""

from __future__ import annotations

import msgspec


class CircuitFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What the rest of qslurm needs to know of a circuit.

    `qubits` and `bits` are how many are declared, `measurements` how many qubits are measured in all.
    """

    qubits: int
    bits: int
    measurements: int


def check_circuit(text: str, *, file: str = "circuit", max_qubits: int | None = None) -> CircuitFacts:
    """What a circuit needs and measures; one that can't be executed is a CircuitError with line and column."""
    raise NotImplementedError
