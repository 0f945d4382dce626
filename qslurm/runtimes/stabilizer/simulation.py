"""Executes circuits of Clifford gates, measurements and resets with stim, in polynomial time."""

from __future__ import annotations

import cmath
import math
from collections import Counter
from collections.abc import Iterator
from functools import lru_cache

from qslurm.circuits.operations import Circuit, Measurement, QuantumGate, Reset, Rotation, Swap

_NEARLY = 1e-9
_PHASES = ("", "S", "Z", "S_DAG")
"""Phase shifts by multiples of pi/2, as stim names them."""


class NotCliffordError(ValueError):
    """A gate is not of the Clifford group."""


def as_stim(circuit: Circuit) -> tuple[str, tuple[int | None, ...]]:
    """A circuit in stim's language, and for each bit the number of the measurement that it holds at the end.

    None is a bit that nothing is measured into. NotCliffordError if a gate is not of the Clifford group.
    """
    lines: list[str] = []
    holds: list[int | None] = [None] * circuit.bits
    measurements = 0
    for operation in circuit.operations:
        match operation:
            case Measurement(qubit, bit):
                lines.append(f"M {qubit}")
                holds[bit] = measurements
                measurements += 1
            case Reset(qubit):
                lines.append(f"R {qubit}")
            case Swap(first, second):
                lines.append(f"SWAP {first} {second}")
            case QuantumGate():
                named = _named(operation)
                if named is None:
                    raise NotCliffordError(operation)
                lines += named
    return "\n".join(lines), tuple(holds)


def is_clifford(circuit: Circuit) -> bool:
    """Whether the circuit consists of Clifford gates, measurements and resets."""
    return all(_named(each) is not None for each in circuit.operations if isinstance(each, QuantumGate))


def sample(circuit: Circuit, shots: int, seed: int | None) -> Iterator[tuple[str, int]]:
    """Execute a circuit; yield keys (the first bit rightmost), each with how many shots had it."""
    import stim

    text, holds = as_stim(circuit)
    sampler = stim.Circuit(text).compile_sampler(seed=seed)
    width = circuit.bits
    if holds == tuple(range(width)):
        packed = sampler.sample(shots, bit_packed=True)
    else:
        import numpy as np

        measured = sampler.sample(shots)
        bits = np.zeros((shots, width), dtype=bool)
        for bit, at in enumerate(holds):
            if at is not None:
                bits[:, bit] = measured[:, at]
        packed = np.packbits(bits, axis=1, bitorder="little")
    data, step = packed.tobytes(), packed.shape[1]
    rows = Counter(data[start : start + step] for start in range(0, len(data), step))
    for row, count in rows.items():
        yield format(int.from_bytes(row, "little"), f"0{width}b"), count


# --- gates -------------------------------------------------------------------------------------------


def _named(gate: QuantumGate) -> list[str] | None:
    """The gate as lines of stim's; None if it is not of the Clifford group."""
    if not gate.controls:
        name = _single(gate.rotation)
        return None if name is None else [f"{name} {gate.target}"] if name else []
    if len(gate.controls) > 1:
        return None
    (control,) = gate.controls
    for pauli, matrix in _PAULIS.items():
        factor = _factor(gate.rotation.matrix(), matrix)
        if factor is not None:
            quarters = cmath.phase(factor) / (math.pi / 2)
            if abs(quarters - round(quarters)) > _NEARLY:
                return None
            shift = _PHASES[round(quarters) % 4]
            lines = [f"C{pauli} {control} {gate.target}"] if pauli else []
            return [*lines, f"{shift} {control}"] if shift else lines
    return None


_PAULIS = {"": (1, 0, 0, 1), "X": (0, 1, 1, 0), "Y": (0, -1j, 1j, 0), "Z": (1, 0, 0, -1)}


def _factor(matrix: tuple[complex, ...], pauli: tuple[complex, ...]) -> complex | None:
    """The number that makes one matrix of the other; None if there is none."""
    factor = sum(a * b.conjugate() for a, b in zip(matrix, map(complex, pauli), strict=True)) / 2
    same = all(abs(a - factor * b) < _NEARLY for a, b in zip(matrix, pauli, strict=True))
    return factor if same else None


@lru_cache(maxsize=4096)
def _single(rotation: Rotation) -> str | None:
    """Stim's name of a rotation ("" for none at all); None if it is not of the Clifford group."""
    images = tuple(_axis(_rotated(rotation, axis)) for axis in ((1, 0, 0), (0, 0, 1)))
    return _names().get(images) if "" not in images else None


def _rotated(rotation: Rotation, vector: tuple[float, float, float]) -> tuple[float, float, float]:
    """The vector after the rotation of the sphere (Rodrigues' formula)."""
    x, y, z, angle, _ = rotation
    cos, sin = math.cos(angle), math.sin(angle)
    vx, vy, vz = vector
    along = (x * vx + y * vy + z * vz) * (1 - cos)
    return (
        vx * cos + (y * vz - z * vy) * sin + x * along,
        vy * cos + (z * vx - x * vz) * sin + y * along,
        vz * cos + (x * vy - y * vx) * sin + z * along,
    )


def _axis(vector: tuple[float, float, float]) -> str:
    """An axis as stim writes it ("+X"); "" for a vector that is along none."""
    for name, length in zip("XYZ", vector, strict=True):
        if abs(abs(length) - 1) < _NEARLY:
            return ("+" if length > 0 else "-") + name
    return ""


@lru_cache(maxsize=1)
def _names() -> dict[tuple[str, ...], str]:
    """The 24 Clifford gates of one qubit, by what they make of X and Z."""
    import stim

    names: dict[tuple[str, ...], str] = {}
    for name, data in stim.gate_data().items():
        if data.is_unitary and data.is_single_qubit_gate:
            tableau = stim.Tableau.from_named_gate(name)
            names[str(tableau.x_output(0)), str(tableau.z_output(0))] = "" if name == "I" else name
    return names
