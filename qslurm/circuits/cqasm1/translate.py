"""Translates cQASM 1.0 to 3.0.

Bit i of the result is the last measurement of qubit i: the measurement register `b` of 1.0 has a bit for each qubit.
Parallel instructions become a sequence, with the same result, because they use different qubits. Facts on gates are
from the cQASM 1.x language reference; the angle of crk is 2 pi / 2^k, as in Quantum Inspire's knowledge base, cQASM 3.0
and QX (the reference's text has half of that).
"""

from __future__ import annotations

from collections.abc import Callable

from qslurm.circuits.cqasm1.lexer import Lexer, Qubits
from qslurm.circuits.cqasm1.parser import Instruction, Subcircuit, read_program
from qslurm.circuits.text import MAX_CHARACTERS, as_number
from qslurm.circuits.translation import Translation
from qslurm.errors import CircuitError

_ANGLE, _K = "an angle", "an integer"
_EXAMPLES = ("q[0]", "q[1]", "q[2]")
_LARGEST_K = 62

_GATES: dict[str, tuple[str, int, str]] = {
    # name in 1.0: name in 3.0, qubits, the parameter after them
    "i": ("I", 1, ""),
    "h": ("H", 1, ""),
    "x": ("X", 1, ""),
    "y": ("Y", 1, ""),
    "z": ("Z", 1, ""),
    "s": ("S", 1, ""),
    "sdag": ("Sdag", 1, ""),
    "t": ("T", 1, ""),
    "tdag": ("Tdag", 1, ""),
    "x90": ("X90", 1, ""),
    "y90": ("Y90", 1, ""),
    "mx90": ("mX90", 1, ""),
    "my90": ("mY90", 1, ""),
    "rx": ("Rx", 1, _ANGLE),
    "ry": ("Ry", 1, _ANGLE),
    "rz": ("Rz", 1, _ANGLE),
    "cnot": ("CNOT", 2, ""),
    "cz": ("CZ", 2, ""),
    "swap": ("SWAP", 2, ""),
    "cr": ("CR", 2, _ANGLE),
    "crk": ("CRk", 2, _K),
}

_STEPS: dict[str, tuple[int, tuple[str, ...]]] = {
    # the number of qubits, and the statements; a measurement in another basis leaves the qubit in that basis
    "prep": (1, ("reset {0}",)),
    "prep_z": (1, ("reset {0}",)),
    "prep_x": (1, ("reset {0}", "H {0}")),
    "prep_y": (1, ("reset {0}", "mX90 {0}")),
    "measure": (1, ("{b} = measure {0}",)),
    "measure_z": (1, ("{b} = measure {0}",)),
    "measure_x": (1, ("H {0}", "{b} = measure {0}", "H {0}")),
    "measure_y": (1, ("X90 {0}", "{b} = measure {0}", "mX90 {0}")),
    "toffoli": (
        3,
        (
            *("H {2}", "CNOT {1}, {2}", "Tdag {2}", "CNOT {0}, {2}", "T {2}", "CNOT {1}, {2}", "Tdag {2}"),
            *(
                "CNOT {0}, {2}",
                "T {1}",
                "T {2}",
                "H {2}",
                "CNOT {0}, {1}",
                "T {0}",
                "Tdag {1}",
                "CNOT {0}, {1}",
            ),
        ),
    ),
}


def translate(text: str, file: str) -> Translation:
    """The program in cQASM 3.0; CircuitError with line and column for what 3.0 does not have."""
    if len(text) > MAX_CHARACTERS:
        raise CircuitError(
            f"{file}: the circuit is {len(text)} characters long; the maximum is {MAX_CHARACTERS}."
        )
    text = text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
    lexer = Lexer(text, file)
    program = read_program(lexer)
    lines = [("version 3.0", 0), (f"qubit[{program.qubits}] q", 0), (f"bit[{program.qubits}] b", 0)]
    room = MAX_CHARACTERS
    for subcircuit in program.subcircuits:
        body = [step for each in subcircuit.instructions for step in _steps(each, lexer)]
        room -= _size(body) * subcircuit.iterations
        if room < 0:
            raise _too_long(subcircuit, lexer)
        lines += body * subcircuit.iterations
    if not any(each.name.startswith("measure") for part in program.subcircuits for each in part.instructions):
        raise CircuitError(
            f"{file}: the circuit measures nothing, so it has no result.", hint="End it with measure_all."
        )
    return Translation("\n".join(line for line, _ in lines) + "\n", text, tuple(at for _, at in lines))


def _size(body: list[tuple[str, int]]) -> int:
    return sum(len(line) + 1 for line, _ in body)


def _too_long(subcircuit: Subcircuit, lexer: Lexer) -> CircuitError:
    if subcircuit.iterations == 1:
        what = f"the circuit is longer than {MAX_CHARACTERS} characters in cQASM 3.0"
        return lexer.error(subcircuit.at, what, "Split it into several circuits.")
    what = f"{subcircuit.iterations} iterations make the circuit longer than {MAX_CHARACTERS} characters"
    return lexer.error(subcircuit.at, what, "Use fewer iterations, or more shots.")


def _steps(instruction: Instruction, lexer: Lexer) -> list[tuple[str, int]]:
    """The statements of 3.0 for an instruction of 1.0, each with its offset."""
    name = instruction.name
    if name in _GATES:
        steps = _gate(instruction, lexer)
    elif name in _STEPS:
        count, templates = _STEPS[name]
        qubits = _qubits(instruction, count, lexer)
        bits = _operand("b", qubits[0])
        steps = [each.format(*(_operand("q", each) for each in qubits), b=bits) for each in templates]
    elif name in _OTHER_STEPS:
        steps = _OTHER_STEPS[name](instruction, lexer)
    else:
        known = ", ".join(sorted({*_GATES, *_STEPS, *_OTHER_STEPS}))
        raise lexer.error(instruction.at, f"unknown instruction {name!r}", f"Available: {known}.")
    return [(step, instruction.at) for step in steps]


def _gate(instruction: Instruction, lexer: Lexer) -> list[str]:
    name, count, parameter = _GATES[instruction.name]
    qubits = ", ".join(_operand("q", each) for each in _qubits(instruction, count, lexer, parameter))
    return [f"{name}{_parameter(instruction, parameter, lexer)} {qubits}"]


def _parameter(instruction: Instruction, parameter: str, lexer: Lexer) -> str:
    number = instruction.operands[-1] if parameter else None
    if parameter == _K and not (isinstance(number, int) and 0 <= number <= _LARGEST_K):
        raise lexer.error(instruction.at, f"the k of crk must be an integer from 0 to {_LARGEST_K}")
    return f"({as_number(number)})" if isinstance(number, int | float) else ""


def _qubits(instruction: Instruction, count: int, lexer: Lexer, parameter: str = "") -> list[Qubits]:
    """The qubit operands, which have to be `count` equally long lists, followed by a number if there is a parameter."""
    operands = instruction.operands
    qubits = [each for each in operands[:count] if isinstance(each, Qubits)]
    rest = operands[count:]
    fits = len(rest) == bool(parameter) and all(isinstance(each, int | float) for each in rest)
    if len(qubits) < count or not fits:
        wanted = f"{count} qubit operand{'s' if count > 1 else ''}" + (
            f" and {parameter}" if parameter else ""
        )
        example = ", ".join([*_EXAMPLES[:count], *(["2"] if parameter else [])])
        what = f"{instruction.name!r} takes {wanted}"
        raise lexer.error(instruction.at, what, f"For example: {instruction.name} {example}.")
    if len({len(each.indices) for each in qubits}) > 1:
        raise lexer.error(
            instruction.at, f"{instruction.name!r} has operands with different numbers of qubits"
        )
    return qubits


# --- other instructions ------------------------------------------------------------------------------


def _measure_all(instruction: Instruction, lexer: Lexer) -> list[str]:
    _no_operands(instruction, lexer)
    return ["b = measure q"]


def _wait(instruction: Instruction, lexer: Lexer) -> list[str]:
    """`wait qubits, cycles`; `wait cycles` and `skip cycles` hold everything."""
    *qubits, cycles = instruction.operands or (None,)
    if not isinstance(cycles, int) or not 0 <= cycles < 2**31 or len(qubits) > 1:
        raise lexer.error(instruction.at, f"{instruction.name!r} takes an integer number of cycles")
    if not qubits:
        return ["barrier q", f"wait({cycles}) q"]
    if not isinstance(qubits[0], Qubits) or instruction.name == "skip":
        raise lexer.error(
            instruction.at, f"invalid operands of {instruction.name!r}", "For example: wait q[0], 10."
        )
    return [f"wait({cycles}) {_operand('q', qubits[0])}"]


def _barrier(instruction: Instruction, lexer: Lexer) -> list[str]:
    if not instruction.operands:
        return ["barrier q"]
    return [f"barrier {_operand('q', each)}" for each in _qubits(instruction, 1, lexer)]


def _no_operands(instruction: Instruction, lexer: Lexer) -> None:
    if instruction.operands:
        raise lexer.error(instruction.at, f"{instruction.name!r} takes no operands")


_OTHER_STEPS: dict[str, Callable[[Instruction, Lexer], list[str]]] = {
    "measure_all": _measure_all,
    "wait": _wait,
    "skip": _wait,
    "barrier": _barrier,
}


# --- operands ----------------------------------------------------------------------------------------


def _operand(register: str, qubits: Qubits) -> str:
    return f"{register}[{', '.join(map(str, qubits.indices))}]"
