"""A simulator for tests that knows nothing of QX and cQASM: it follows every outcome of every measurement.

States are not normalised, so that the norm of a branch is its probability. Qubit i is axis i.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

Branch = tuple[np.ndarray, tuple[int, ...]]

PAULI = {
    "x": np.array([[0, 1], [1, 0]]),
    "y": np.array([[0, -1j], [1j, 0]]),
    "z": np.diag([1, -1]).astype(complex),
}


def rotation(axis: str, angle: float) -> np.ndarray:
    """exp(-i angle/2 P)."""
    matrix: np.ndarray = np.cos(angle / 2) * np.eye(2) - 1j * np.sin(angle / 2) * PAULI[axis]
    return matrix


def phase(angle: float) -> np.ndarray:
    return np.diag([1, np.exp(1j * angle)])


def controlled(matrix: np.ndarray) -> np.ndarray:
    """The matrix on the last qubits where the first one is 1."""
    size = len(matrix)
    whole = np.eye(2 * size, dtype=complex)
    whole[size:, size:] = matrix
    return whole


class Simulation:
    """All that can have happened so far on some qubits and bits, all 0 in the beginning."""

    def __init__(self, qubits: int, bits: int) -> None:
        start = np.zeros((2,) * qubits, dtype=complex)
        start[(0,) * qubits] = 1
        self.branches: list[Branch] = [(start, (0,) * bits)]

    def apply(self, matrix: np.ndarray, qubits: Sequence[int]) -> None:
        self.branches = [(applied(matrix, state, qubits), bits) for state, bits in self.branches]

    def measure(self, qubit: int, bit: int, basis: np.ndarray | None = None) -> None:
        """In the basis of the matrix's columns."""
        basis = np.eye(2) if basis is None else basis
        outcomes = [(value, np.outer(basis[:, value], basis[:, value].conj())) for value in (0, 1)]
        self._branch(
            [
                (applied(projector, state, [qubit]), (*bits[:bit], value, *bits[bit + 1 :]))
                for state, bits in self.branches
                for value, projector in outcomes
            ]
        )

    def prepare(self, qubit: int, vector: np.ndarray) -> None:
        """Forget what the qubit was, and make it this."""
        lost = [np.outer(vector, np.eye(2)[value]) for value in (0, 1)]
        self._branch(
            [(applied(each, state, [qubit]), bits) for state, bits in self.branches for each in lost]
        )

    def probabilities(self) -> dict[str, float]:
        """Of each result, bit 0 rightmost."""
        total: dict[str, float] = {}
        for state, bits in self.branches:
            key = "".join(map(str, reversed(bits)))
            total[key] = total.get(key, 0.0) + norm(state)
        return total

    def _branch(self, branches: list[Branch]) -> None:
        self.branches = [branch for branch in branches if norm(branch[0]) > 1e-12]


def applied(matrix: np.ndarray, state: np.ndarray, qubits: Sequence[int]) -> np.ndarray:
    count = len(qubits)
    tensor = matrix.reshape((2,) * (2 * count))
    return np.moveaxis(np.tensordot(tensor, state, (range(count, 2 * count), qubits)), range(count), qubits)


def norm(state: np.ndarray) -> float:
    return float(np.vdot(state, state).real)


def assert_follows(counts: dict[str, int], expected: dict[str, float]) -> None:
    """That counts are what these probabilities make likely: each within six standard deviations."""
    shots = sum(counts.values())
    assert set(counts) <= set(expected), expected
    for key, probability in expected.items():
        deviation = np.sqrt(shots * probability * max(0.0, 1 - probability))
        assert abs(counts.get(key, 0) - shots * probability) <= 6 * deviation + 1, (counts, expected)
