"""Operations of a circuit as qulacs's gates."""

from __future__ import annotations

import cmath
import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from qslurm.circuits.operations import FIXED, QuantumGate, Rotation, Swap

if TYPE_CHECKING:
    import qulacs

_FUSED_FROM = 18
"""Qubits from which it pays to merge gates into larger ones before they are applied."""
_FUSED_QUBITS = 2
_EXACT = 1e-15


def compiled(gates: Iterable[QuantumGate | Swap], at: Mapping[int, int]) -> qulacs.QuantumCircuit:
    """A circuit of these gates; `at` says which of its qubits stands for each of theirs."""
    import qulacs

    circuit = qulacs.QuantumCircuit(len(at))
    for gate in gates:
        if isinstance(gate, Swap):
            circuit.add_SWAP_gate(at[gate.first], at[gate.second])
        elif not gate.controls:
            circuit.add_gate(_single(gate.rotation, at[gate.target]))
        else:
            _add_controlled(circuit, gate.rotation, at[gate.target], [at[each] for each in gate.controls])
    if len(at) >= _FUSED_FROM:
        from qulacs.circuit import QuantumCircuitOptimizer

        QuantumCircuitOptimizer().optimize(circuit, _FUSED_QUBITS)
    return circuit


def _single(rotation: Rotation, target: int) -> Any:
    """The rotation of a qubit, without its global phase."""
    from qulacs import gate

    if (name := _NAMES.get(rotation)) is not None:
        return getattr(gate, name)(target)
    if (name := _AXES.get(rotation[:3])) is not None:
        return getattr(gate, name)(target, rotation.angle)
    return gate.U3(target, *_euler(rotation)[:3])


def _add_controlled(
    circuit: qulacs.QuantumCircuit, rotation: Rotation, target: int, controls: list[int]
) -> None:
    from qulacs import gate

    if len(controls) == 1 and rotation == FIXED["X"]:
        circuit.add_CNOT_gate(controls[0], target)
    elif len(controls) == 1 and rotation == FIXED["Z"]:
        circuit.add_CZ_gate(controls[0], target)
    else:
        *angles, phase = _euler(rotation)
        matrix = gate.to_matrix_gate(gate.U3(target, *angles))
        for control in controls:
            matrix.add_control_qubit(control, 1)
        circuit.add_gate(matrix)
        if abs(math.remainder(phase, math.tau)) > _EXACT:
            last, *others = controls  # a phase of what is controlled is a phase shift of its controls
            shift = gate.U1(last, phase) if not others else gate.to_matrix_gate(gate.U1(last, phase))
            for control in others:
                shift.add_control_qubit(control, 1)
            circuit.add_gate(shift)


def _euler(rotation: Rotation) -> tuple[float, float, float, float]:
    """The angles theta, phi, lambda of U3, and the phase before it."""
    a, b, c, d = rotation.matrix()
    theta = 2 * math.atan2(abs(c), abs(a))
    if abs(a) < _EXACT:
        phase = cmath.phase(-b)
        return theta, cmath.phase(c) - phase, 0.0, phase
    phase = cmath.phase(a)
    phi = cmath.phase(c) - phase if abs(c) > _EXACT else 0.0
    return theta, phi, cmath.phase(d) - phase - phi, phase


_NAMES = {FIXED[name]: name for name in ("H", "X", "Y", "Z", "S", "Sdag", "T", "Tdag")} | {
    FIXED["X90"]: "sqrtX",
    FIXED["mX90"]: "sqrtXdag",
    FIXED["Y90"]: "sqrtY",
    FIXED["mY90"]: "sqrtYdag",
}
_AXES = {(1.0, 0.0, 0.0): "RotX", (0.0, 1.0, 0.0): "RotY", (0.0, 0.0, 1.0): "RotZ"}
