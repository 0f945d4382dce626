"""Checks a cQASM 3.0 circuit with libqasm, and plans how to read its results.

A program of cQASM 1.0 is translated first; messages then name the lines of the original.

QX keys its results by qubit, with the last value of each; clients expect keys by classical bit. So the readout says
which qubit has each bit's value at the end. Where a qubit is measured or reset again before, the program copies the
value to a spare qubit (by CNOT, which is exact after a measurement). It also measures qubits before a reset, which QX
computes wrongly for entangled ones.
"""

from __future__ import annotations

import math
import re
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from qslurm.circuits import gate_substitutes
from qslurm.circuits.analysis import FIRST_LINES, analyze
from qslurm.circuits.text import MAX_QUBITS, Text, is_cqasm1, place, read_text
from qslurm.errors import CircuitError
from qslurm.system.plugins import load_plugin

if TYPE_CHECKING:
    from qslurm.circuits.translation import Translation

LANGUAGES = "qslurm.languages"
"""The entry point group of translators to cQASM 3.0: functions of a circuit's text and file name."""

_BUILT_IN = {"cqasm1": "qslurm.circuits.cqasm1.translate:translate"}

MAX_BITS = 4096
"""Maximum bits of a result key; QX itself allows a million."""
CACHED_CHARACTERS = 16_384
_UNIT_TOLERANCE = 1e-3
"""Of the length of an axis, which is often written with four digits. QX takes the axis as it is, and its counts are
wrong by as much."""
_SMALLEST_K = -1020
"""Smallest k of CRk, whose angle 2 pi / 2^k exceeds a double-precision number below it."""


class Readout(msgspec.Struct, frozen=True, kw_only=True):
    """How to read classical bits from a runtime that reports qubits.

    Execute `program`, which has `qubits` qubits. Bit i is the value of qubit `sources[i]` (both numbered in order of
    declaration), or 0 if that is None, because the bit is never measured into.
    """

    program: str
    qubits: int
    sources: tuple[int | None, ...]

    def key(self, qubit_key: str) -> str:
        """The bits of a qubit-keyed result (both with the first one rightmost)."""
        return "".join("0" if at is None else qubit_key[-1 - at] for at in reversed(self.sources))


class CircuitFacts(msgspec.Struct, frozen=True, kw_only=True):
    """The properties of a circuit.

    `qubits` and `bits` are the numbers of declared ones, `measurements` the number of measured qubits. `translation` is
    set if the circuit was in another version of cQASM.
    """

    qubits: int
    bits: int
    measurements: int
    readout: Readout
    translation: Translation | None = None

    def relocated(self, text: str, file: str) -> str:
        """A message about the executed program, with the positions of the original circuit."""
        return text if self.translation is None else self.translation.relocated(text, file)


def check_circuit(
    text: str,
    *,
    file: str = "circuit",
    max_qubits: int | None = None,
    max_shots: int | None = None,
    shots: int = 1,
) -> CircuitFacts:
    """Check a circuit; CircuitError with line and column if it is invalid.

    `max_qubits` and `max_shots` are the backend's limits, `shots` the requested number.
    """
    if not isinstance(text, str):
        raise CircuitError(f"{file}: a circuit must be text, not {type(text).__name__}.")
    facts = _cached_facts(text, file) if len(text) <= CACHED_CHARACTERS else _facts(text, file)
    if max_qubits is not None and facts.qubits > max_qubits:
        raise CircuitError(
            f"{file}: the circuit has {facts.qubits} qubits, the backend has {max_qubits}.",
            hint="Use a larger backend, or declare only the qubits you use.",
        )
    if max_shots is not None and shots > max_shots:
        raise CircuitError(
            f"{file}: {shots} shots exceed the backend's maximum of {max_shots}.",
            hint=f"Use at most {max_shots} shots.",
        )
    return facts


@lru_cache(maxsize=64)
def _cached_facts(text: str, file: str) -> CircuitFacts:
    """Cached, since a circuit is often executed several times in a row."""
    return _facts(text, file)


def _facts(text: str, file: str) -> CircuitFacts:
    if not is_cqasm1(text):
        return _facts_of_cqasm3(text, file)
    translation: Translation = load_plugin(LANGUAGES, "cqasm1", _BUILT_IN)(text, file)
    try:
        facts = _facts_of_cqasm3(translation.program, file)
    except CircuitError as error:
        message, hint = (translation.relocated(each, file) for each in (error.message, error.hint))
        raise CircuitError(message, hint=hint) from error
    return msgspec.structs.replace(facts, translation=translation)


class Parsed(NamedTuple):
    """A program of cQASM 3.0: its text, libqasm's tree, and its registers."""

    read: Text
    tree: dict[str, Any]
    registers: Registers


def parse(text: str, file: str) -> Parsed:
    """Analyze a program of cQASM 3.0; CircuitError if it isn't valid."""
    return _cached_parsed(text, file) if len(text) <= CACHED_CHARACTERS else _parsed(text, file)


@lru_cache(maxsize=4)
def _cached_parsed(text: str, file: str) -> Parsed:
    """Cached, since a circuit is checked and then read for an emulator; trees are large."""
    return _parsed(text, file)


def _parsed(text: str, file: str) -> Parsed:
    read = read_text(text, file)
    tree = analyze(read, file)
    return Parsed(read, tree, Registers.of(tree["variables"]))


def _facts_of_cqasm3(text: str, file: str) -> CircuitFacts:
    if not text.strip():
        raise CircuitError(f"{file}: the circuit is empty.", hint=FIRST_LINES + ".")
    read, program, registers = parse(text, file)
    if registers.qubits == 0:
        raise CircuitError(f"{file}: the circuit has no qubits.", hint=FIRST_LINES + ".")
    if registers.qubits > MAX_QUBITS:
        raise CircuitError(
            f"{file}: the circuit has {registers.qubits} qubits; the maximum is {MAX_QUBITS}.",
            hint="Declare only the qubits you use.",
        )
    if registers.bits > MAX_BITS:
        raise CircuitError(
            f"{file}: the circuit has {registers.bits} classical bits; the maximum is {MAX_BITS}.",
            hint="Declare only the bits you measure into.",
        )
    steps = program["block"]["Block"]["statements"]
    _refuse_repeated_operands(steps, registers, read, file)
    _refuse_infinite_angles(steps, read, file)
    measured = _measurements(steps, registers)
    if not measured:
        raise CircuitError(
            f"{file}: the circuit measures nothing, so it has no result.",
            hint="Declare bits and measure into them, for example: bit[2] b; b = measure q.",
        )
    return CircuitFacts(
        qubits=registers.qubits,
        bits=registers.bits,
        measurements=len(measured),
        readout=_plan_readout(measured, _unsafe_resets(steps, registers), registers, read, file),
    )


# --- declarations and measurements -------------------------------------------------------------------


class Registers(NamedTuple):
    """The offset and length of each declared variable among all qubits or bits.

    `names` are the qubits' names, as a program can write them.
    """

    starts: dict[str, tuple[int, int]]
    names: list[str]
    qubits: int
    bits: int

    @classmethod
    def of(cls, variables: list[dict[str, Any]]) -> Registers:
        """The registers in a program's semantic tree."""
        starts: dict[str, tuple[int, int]] = {}
        names: list[str] = []
        totals = {"Qubit": 0, "Bit": 0}
        for each in variables:
            variable = each["Variable"]
            (kind, details), *_ = variable["typ"].items()
            family = kind.removesuffix("Array")
            size = int(details["size"])
            starts[variable["name"]] = (totals[family], size)
            totals[family] += size
            if family == "Qubit" and totals[family] <= MAX_QUBITS:
                name = variable["name"]
                names += [f"{name}[{i}]" for i in range(size)] if kind == "QubitArray" else [name]
        return cls(starts, names, totals["Qubit"], totals["Bit"])

    def indices(self, operand: dict[str, Any]) -> list[int]:
        """The qubits or bits an operand names, in its order."""
        (kind, details), *_ = operand.items()
        start, size = self.starts[details["variable"]["Variable"]["name"]]
        if kind == "IndexRef":
            return [start + int(index["ConstInt"]["value"]) for index in details["indices"]]
        return list(range(start, start + size))


class _Measured(NamedTuple):
    """A measurement of one qubit into one bit at step number `step`."""

    step: int
    bit: int
    qubit: int


def _measurements(steps: list[dict[str, Any]], registers: Registers) -> list[_Measured]:
    measured: list[_Measured] = []
    for step, statement in enumerate(steps):
        instruction = statement.get("NonGateInstruction")
        if instruction is not None and instruction["name"] == "measure":
            bits, qubits = (registers.indices(operand) for operand in instruction["operands"])
            measured += [_Measured(step, bit, qubit) for bit, qubit in zip(bits, qubits, strict=True)]
    return measured


def _refuse_repeated_operands(
    steps: list[dict[str, Any]], registers: Registers, read: Text, file: str
) -> None:
    """Refuse gates that use a qubit twice: not unitary, but QX computes something."""
    for step, statement in enumerate(steps):
        operands = statement.get("GateInstruction", {}).get("operands", [])
        if len(operands) < 2:
            continue
        for together in zip(*map(registers.indices, operands), strict=False):
            if len(set(together)) < len(together):
                where = _where(read, len(steps), step, file)
                raise CircuitError(
                    f"{where}: a gate uses the same qubit twice.",
                    hint="Use different qubits.",
                )


def _refuse_infinite_angles(steps: list[dict[str, Any]], read: Text, file: str) -> None:
    """Refuse angles that are not finite: QX's result would be meaningless."""
    for step, statement in enumerate(steps):
        gate = statement.get("GateInstruction", {}).get("gate")
        while isinstance(gate, dict):  # a modifier has a gate inside
            details = gate["Gate"]
            numbers = [float(value["value"]) for each in details["parameters"] for value in each.values()]
            if what := _parameter_problem(details["name"], numbers):
                raise CircuitError(
                    f"{_where(read, len(steps), step, file)}: {what}.",
                    hint="Check for roots or logarithms of negative numbers, and for numbers that are too large.",
                )
            gate = details["gate"]


def _parameter_problem(gate: str, numbers: list[float]) -> str:
    """The problem with a gate's (or modifier's) parameters, or ""."""
    if not all(map(math.isfinite, numbers)):
        return f"a parameter of {gate} is not a finite number"
    if gate == "CRk" and numbers and numbers[0] < _SMALLEST_K:
        return f"the angle of CRk with k = {numbers[0]:.0f} is not a finite number"
    if gate == "Rn" and len(numbers) == 5 and not any(numbers[:3]):
        return "the axis of Rn is the zero vector"
    if gate == "Rn" and len(numbers) == 5 and not (gate_substitutes.are_needed() and numbers[:2] == [1, 1]):
        length = math.hypot(*numbers[:3])
        if abs(length - 1) > _UNIT_TOLERANCE:
            return f"the axis of Rn has length {length:.4g}, not 1"
    return ""


def _unsafe_resets(steps: list[dict[str, Any]], registers: Registers) -> list[tuple[int, int]]:
    """The resets (step, qubit) that may act on a superposed or entangled qubit.

    QX 0.11 adds the amplitudes there: after H and CNOT, resetting one qubit leaves the other in a superposition.
    Measuring the qubit first makes the reset correct.
    """
    unsafe: list[tuple[int, int]] = []
    touched: set[int] = set()
    for step, statement in enumerate(steps):
        instruction = statement.get("GateInstruction") or statement.get("NonGateInstruction") or {}
        name, operands = instruction.get("name"), instruction.get("operands", [])
        if "GateInstruction" in statement:
            touched.update(qubit for operand in operands for qubit in registers.indices(operand))
        elif name in ("measure", "reset", "init"):
            qubits = registers.indices(operands[-1])
            unsafe += [(step, qubit) for qubit in qubits if name == "reset" and qubit in touched]
            touched.difference_update(qubits)
    return unsafe


def _plan_readout(
    measured: list[_Measured], resets: list[tuple[int, int]], registers: Registers, read: Text, file: str
) -> Readout:
    """Find the qubit with each bit's final value; add spare qubits where there is none."""
    writes = {each.bit: each for each in measured}  # a later measurement into a bit replaces the earlier one
    last_step: dict[int, int] = {}
    for step, qubit in sorted([(each.step, each.qubit) for each in measured] + resets):
        last_step[qubit] = step
    lost = sorted({(each.step, each.qubit) for each in writes.values() if last_step[each.qubit] != each.step})
    if registers.qubits + len(lost) > MAX_QUBITS:
        raise CircuitError(
            f"{file}: {len(lost)} values are measured from qubits that are measured or reset again later; with"
            f" {registers.qubits} qubits there is room for {MAX_QUBITS - registers.qubits}.",
            hint="Measure fewer intermediate values, or use a fresh qubit for each.",
        )
    spare = {value: i for i, value in enumerate(lost)}

    def source(bit: int) -> int | None:
        if bit not in writes:
            return None
        step, _, qubit = writes[bit]
        # The spare qubits are declared first, so that they are the first ones of QX's keys.
        return spare.get((step, qubit), len(lost) + qubit)

    return Readout(
        program=_rewritten(read, lost, resets, registers) if lost or resets else read.program,
        qubits=registers.qubits + len(lost),
        sources=tuple(source(bit) for bit in range(registers.bits)),
    )


def _rewritten(
    read: Text, lost: list[tuple[int, int]], resets: list[tuple[int, int]], registers: Registers
) -> str:
    """The program with each lost value copied after its measurement, and unsafe resets made safe."""
    name = "spare"
    while re.search(rf"\b{name}(_bits|_bit)?\b", read.program):
        name += "_"
    steps, names = read.steps, registers.names
    declared = f"; qubit[{len(lost)}] {name}; bit[{len(lost)}] {name}_bits" if lost else ""
    insertions = [(read.statements[0].end, f"{declared}; bit {name}_bit")]
    insertions += [
        (steps[at].end, f"; CNOT {names[qubit]}, {name}[{i}]") for i, (at, qubit) in enumerate(lost)
    ]
    insertions += [(steps[at].start, f"{name}_bit = measure {names[qubit]}; ") for at, qubit in resets]
    program = read.program
    for offset, text in sorted(insertions, reverse=True):
        program = f"{program[:offset]}{text}{program[offset:]}"
    return f"{program}\n{name}_bits = measure {name}\n" if lost else program


def _where(read: Text, count: int, step: int, file: str) -> str:
    if len(read.steps) != count:
        return file
    line, column = place(read.program, read.steps[step].start)
    return f"{file}:{line}:{column}"
