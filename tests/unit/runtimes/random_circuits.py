"""Random circuits of all gates, controls, measurements in the middle, and resets."""

from __future__ import annotations

import random
from collections import Counter
from math import sqrt

CLIFFORD = (
    *("I", "H", "X", "Y", "Z", "S", "Sdag", "X90", "Y90", "Z90", "mX90", "mY90", "mZ90"),
    *("Rx(pi/2)", "Ry(-pi)", "Rz(3*pi/2)", "U(pi/2,0,pi)", "Rn(sqrt(0.5),0,sqrt(0.5),pi,0.2)"),
)
CLIFFORD_PAIRS = (
    *("CNOT", "CZ", "SWAP", "CR(pi)", "CRk(1)", "ctrl.Y", "ctrl.pow(2).S", "ctrl.pow(2).X90"),
    *("ctrl.Rx(pi)", "ctrl.I", "ctrl.Rz(2*pi)"),
)
FIXED = ("I", "H", "X", "Y", "Z", "S", "T", "Sdag", "Tdag", "X90", "Y90", "Z90", "mX90", "mY90", "mZ90")


def random_circuit(seed: int, *, clifford: bool = False, most_qubits: int = 5) -> str:
    """A circuit of up to so many qubits, as cQASM 3.0; bits are written several times, or never."""
    dice = random.Random(seed)
    qubits, bits = dice.randint(1, most_qubits), dice.randint(1, most_qubits)
    lines = [f"version 3.0; qubit[{qubits}] q; bit[{bits}] b"]
    for _ in range(dice.randint(2, 30)):
        first, *others = dice.sample(range(qubits), min(2, qubits))
        chance = dice.random()
        if chance < 0.45 or (chance < 0.85 and not others):
            lines.append(f"{_modifiers(dice, clifford)}{_single(dice, clifford)} q[{first}]")
        elif chance < 0.85:
            lines.append(f"{_pair(dice, clifford)} q[{first}], q[{others[0]}]")
        elif chance < 0.93:
            lines.append(f"b[{dice.randrange(bits)}] = measure q[{first}]")
        elif chance < 0.97:
            lines.append(f"reset q[{first}]")
    lines += [f"b[{bit}] = measure q[{dice.randrange(qubits)}]" for bit in range(bits) if dice.random() < 0.8]
    return "\n".join([*lines, "b[0] = measure q[0]"])


def _angle(dice: random.Random) -> str:
    return dice.choice([str(round(dice.uniform(-7, 7), 4)), "pi/3", "-pi/2", "2*pi/3", "pi*0.37"])


def _single(dice: random.Random, clifford: bool) -> str:
    if clifford:
        return dice.choice(CLIFFORD)
    a, b = _angle(dice), _angle(dice)
    rotations = (f"Rx({a})", f"Ry({a})", f"Rz({a})", f"U({a},{b},0.3)", f"Rn(0.6,0,0.8,{a},0.3)")
    return dice.choice([dice.choice(FIXED), dice.choice(rotations)])


def _modifiers(dice: random.Random, clifford: bool) -> str:
    # not a root of an inverse: QX takes another one where an eigenvalue is -1
    return dice.choice(
        ["", "inv.", "pow(2).", "pow(-1)."] if clifford else ["", "", "inv.", "pow(0.5).", "inv.pow(1.0/3)."]
    )


def _pair(dice: random.Random, clifford: bool) -> str:
    if clifford:
        return dice.choice(CLIFFORD_PAIRS)
    controlled = f"ctrl.{_modifiers(dice, clifford)}{_single(dice, clifford)}"
    return dice.choice([controlled, dice.choice(["CNOT", "CZ", "SWAP", f"CR({_angle(dice)})", "CRk(2)"])])


def assert_same_distribution(first: dict[str, int], second: dict[str, int]) -> None:
    """The total variation distance of two samples of as many shots is within what chance allows."""
    shots, keys = sum(first.values()), {*first, *second}
    assert sum(second.values()) == shots
    one, other = Counter(first), Counter(second)
    distance = sum(abs(one[key] - other[key]) for key in keys) / 2 / shots
    assert distance < sqrt(len(keys) / shots) + 3 / sqrt(shots), (
        distance,
        one.most_common(8),
        other.most_common(8),
    )
