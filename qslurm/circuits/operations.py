"""A cQASM 3.0 circuit as the operations it is made of, for emulators and for checks against a backend.

Gates are given by what they do, not by name: a rotation of one qubit about an axis, with or without controls, or a
swap. Modifiers (`inv`, `pow`, `ctrl`) are worked in.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, NamedTuple

import msgspec

from qslurm.circuits.check import CACHED_CHARACTERS, Registers, check_circuit, parse
from qslurm.circuits.expressions import exact
from qslurm.circuits.gate_substitutes import original_name

_PI = math.pi
_NEARLY = 1e-12


class Rotation(NamedTuple):
    """exp(i phase) exp(-i angle/2 (x X + y Y + z Z)), where (x, y, z) is a unit vector; angles in radians."""

    x: float
    y: float
    z: float
    angle: float
    phase: float = 0.0

    def inverse(self) -> Rotation:
        """The rotation that undoes it."""
        return self._replace(angle=-self.angle, phase=-self.phase)

    def power(self, exponent: float) -> Rotation:
        """The rotation to that power: of each eigenvalue the principal power, as QX has it."""
        plus = exponent * _principal(self.phase - self.angle / 2)
        minus = exponent * _principal(self.phase + self.angle / 2)
        return self._replace(angle=minus - plus, phase=(plus + minus) / 2)

    def matrix(self) -> tuple[complex, complex, complex, complex]:
        """The matrix, row by row."""
        cos, sin = math.cos(self.angle / 2), math.sin(self.angle / 2)
        factor = complex(math.cos(self.phase), math.sin(self.phase))
        return (
            factor * complex(cos, -sin * self.z),
            factor * complex(-sin * self.y, -sin * self.x),
            factor * complex(sin * self.y, -sin * self.x),
            factor * complex(cos, sin * self.z),
        )


def _principal(angle: float) -> float:
    """The same angle in (-pi, pi]; what rounding made a little more than -pi is pi."""
    angle = math.remainder(angle, math.tau)
    return angle + math.tau if angle <= -_PI + _NEARLY else angle


class QuantumGate(NamedTuple):
    """A rotation of `target`, done where all `controls` are 1."""

    rotation: Rotation
    target: int
    controls: tuple[int, ...] = ()


class Swap(NamedTuple):
    """Two qubits change places."""

    first: int
    second: int


class Measurement(NamedTuple):
    """A qubit's value in the computational basis goes into a bit."""

    qubit: int
    bit: int


class Reset(NamedTuple):
    """A qubit is |0> afterwards."""

    qubit: int


Operation = QuantumGate | Swap | Measurement | Reset


class Circuit(msgspec.Struct, frozen=True):
    """A circuit's operations in order; qubits and bits are counted in the order they are declared."""

    qubits: int
    bits: int
    operations: tuple[Operation, ...]


_HALF, _QUARTER = math.sqrt(0.5), _PI / 4
FIXED = {
    "I": Rotation(0, 0, 1, 0),
    "H": Rotation(_HALF, 0, _HALF, _PI, _PI / 2),
    "X": Rotation(1, 0, 0, _PI, _PI / 2),
    "Y": Rotation(0, 1, 0, _PI, _PI / 2),
    "Z": Rotation(0, 0, 1, _PI, _PI / 2),
    "S": Rotation(0, 0, 1, _PI / 2, _QUARTER),
    "Sdag": Rotation(0, 0, 1, -_PI / 2, -_QUARTER),
    "T": Rotation(0, 0, 1, _QUARTER, _QUARTER / 2),
    "Tdag": Rotation(0, 0, 1, -_QUARTER, -_QUARTER / 2),
    "X90": Rotation(1, 0, 0, _PI / 2, _QUARTER),
    "Y90": Rotation(0, 1, 0, _PI / 2, _QUARTER),
    "Z90": Rotation(0, 0, 1, _PI / 2, _QUARTER),
    "mX90": Rotation(1, 0, 0, -_PI / 2, -_QUARTER),
    "mY90": Rotation(0, 1, 0, -_PI / 2, -_QUARTER),
    "mZ90": Rotation(0, 0, 1, -_PI / 2, -_QUARTER),
}
_AXES = {"Rx": (1.0, 0.0, 0.0), "Ry": (0.0, 1.0, 0.0), "Rz": (0.0, 0.0, 1.0)}
_CONTROLLED = {"CNOT": "X", "CZ": "Z"}


def checked_circuit(text: str, file: str) -> Circuit:
    """The operations of a circuit, of cQASM 1.0 too; CircuitError if it isn't valid."""
    translation = check_circuit(text, file=file).translation
    return read_circuit(text if translation is None else translation.program, file)


def read_circuit(text: str, file: str) -> Circuit:
    """The operations of a program of cQASM 3.0 that is valid (`qslurm.circuits.check`)."""
    return _cached_circuit(text, file) if len(text) <= CACHED_CHARACTERS else _circuit(text, file)


@lru_cache(maxsize=64)
def _cached_circuit(text: str, file: str) -> Circuit:
    return _circuit(text, file)


def _circuit(text: str, file: str) -> Circuit:
    read, program, registers = parse(text, file)
    statements = program["block"]["Block"]["statements"]
    texts = (
        [step.code for step in read.steps] if len(read.steps) == len(statements) else [""] * len(statements)
    )
    found: list[Operation] = []
    for statement, code in zip(statements, texts, strict=True):
        if (gate := statement.get("GateInstruction")) is not None:
            found += _gates(gate, code, registers)
        elif (instruction := statement.get("NonGateInstruction")) is not None:
            found += _others(instruction, registers)
    return Circuit(registers.qubits, registers.bits, tuple(found))


def _gates(instruction: dict[str, Any], code: str, registers: Registers) -> Iterator[Operation]:
    qubits = zip(*(registers.indices(operand) for operand in instruction["operands"]), strict=True)
    rotation, name = _rotation(instruction["gate"]["Gate"], iter(_parameters(code)), original_name(code))
    if rotation is None:
        yield from (Swap(*pair) for pair in qubits)
    elif name != "I" or rotation.phase:
        for *controls, target in qubits:
            yield QuantumGate(rotation, target, tuple(controls))


def _others(instruction: dict[str, Any], registers: Registers) -> Iterator[Operation]:
    operands = [registers.indices(operand) for operand in instruction["operands"]]
    if instruction["name"] == "measure":
        bits, qubits = operands
        yield from map(Measurement, qubits, bits)
    elif instruction["name"] in ("reset", "init"):
        yield from map(Reset, operands[-1])


def _rotation(gate: dict[str, Any], texts: Iterator[list[str]], original: str) -> tuple[Rotation | None, str]:
    """What a gate does to its target (None: it swaps), and the name of the gate inside its modifiers.

    `original` is the gate's name in the program, if libqasm has read a substitute.
    """
    numbers = [float(value["value"]) for each in gate["parameters"] for value in each.values()]
    if numbers:
        if original == "U" and not isinstance(gate["gate"], dict):
            numbers = numbers[-3:]  # without the substitute's axis
        exactly = next(texts, [])
        if len(exactly) == len(numbers):
            numbers = list(map(exact, exactly, numbers))
    name = gate["name"]
    if isinstance(gate["gate"], dict):
        rotation, inner = _rotation(gate["gate"]["Gate"], texts, original)
        assert rotation is not None, "libqasm lets modifiers stand before gates of one qubit only"
        if name == "inv":
            rotation = rotation.inverse()
        elif name == "pow":
            rotation = rotation.power(*numbers)
        return rotation, inner
    name = original or name
    return (None if name == "SWAP" else _named(name, numbers)), name


def _named(name: str, numbers: list[float]) -> Rotation:
    if name in _CONTROLLED:
        return FIXED[_CONTROLLED[name]]
    if name in _AXES:
        return Rotation(*_AXES[name], *numbers)
    if name == "CR":
        return _phase_shift(*numbers)
    if name == "CRk":
        return _phase_shift(math.tau / 2.0 ** numbers[0])
    if name == "Rn":
        x, y, z, angle, phase = numbers
        length = math.hypot(x, y, z)
        return Rotation(x / length, y / length, z / length, angle, phase)
    if name == "U":
        return _universal(*numbers)
    return FIXED[name]


def _phase_shift(angle: float) -> Rotation:
    """diag(1, exp(i angle))."""
    return Rotation(0, 0, 1, angle, angle / 2)


def _universal(theta: float, phi: float, lam: float) -> Rotation:
    """[[cos(theta/2), -exp(i lam) sin(theta/2)], [exp(i phi) sin(theta/2), exp(i (phi + lam)) cos(theta/2)]]."""
    half, difference = (phi + lam) / 2, (phi - lam) / 2
    cos, sin = math.cos(theta / 2), math.sin(theta / 2)
    # without the phase exp(i half): exp(-i phi Z/2) exp(-i theta Y/2) exp(-i lam Z/2), as a quaternion
    w, x, y, z = (
        cos * math.cos(half),
        -sin * math.sin(difference),
        sin * math.cos(difference),
        cos * math.sin(half),
    )
    length = math.hypot(x, y, z)
    if length < _NEARLY:
        return Rotation(0, 0, 1, 0 if w > 0 else math.tau, half)
    return Rotation(x / length, y / length, z / length, 2 * math.atan2(length, w), half)


_PARENTHESIS = re.compile(r"[()\[\],]")


def _parameters(code: str) -> list[list[str]]:
    """The texts of the parameters in a gate's statement, for each of its parentheses, from left to right."""
    groups: list[list[str]] = []
    depth = start = 0
    for match in _PARENTHESIS.finditer(code):
        sign, at = match.group(), match.start()
        if sign in "([":
            if sign == "(" and depth == 0:
                groups.append([])
                start = at + 1
            depth += 1
            continue
        if sign in ")]":
            depth -= 1
        if (sign == ")" and depth == 0) or (
            sign == "," and depth == 1 and groups and code[start - 1] in "(,"
        ):
            groups[-1].append(code[start:at])
            start = at + 1
    return groups
