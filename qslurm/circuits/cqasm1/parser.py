"""Reads a cQASM 1.0 program: from its lexer to sub-circuits of instructions with their operands computed.

The grammar is that of the cQASM 1.x language reference ("Statements", "Instructions"); programs that say
version 1.1 or 1.2 are read too, as long as they use nothing that 1.0 doesn't have.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from qslurm.circuits.cqasm1.lexer import COMMENTS, Bits, Lexer, Operand, Qubits, Token
from qslurm.circuits.text import MAX_QUBITS

_NO_RESULTS = {"display", "display_binary", "reset-averaging"}
"""They show or average what a simulator has inside. Nobody sees that here, and the results stay the same."""

_REFUSED = {
    "error_model": "noise models are not supported",
    "load_state": "loading a state from a file is not supported",
    "cond": "gates that depend on measured bits are not supported",
    "not": "changing measured bits is not supported",
    "measure_parity": "measuring a parity in one step is not supported",
    "u": "gates given by a matrix are not supported",
} | dict.fromkeys(
    ["var", "set", "if", "for", "foreach", "while", "repeat", "until", "break", "continue", "goto"],
    "variables and control flow (cQASM 1.1 and 1.2) are not supported",
)
_HINTS = {
    "cond": "Remove the feedback, or use a hybrid file that reads the results.",
    "measure_parity": "Compute the parity on a spare qubit with cnot, and measure that qubit.",
    "u": "Decompose it into rx, ry and rz.",
}
_MOST_ITERATIONS = 10**9


@dataclass(frozen=True)
class Instruction:
    """A gate, preparation, measurement or wait: its name in lower case, its operands, its offset."""

    name: str
    operands: tuple[Operand, ...]
    at: int


@dataclass
class Subcircuit:
    """Instructions that are executed `iterations` times in a row."""

    at: int
    iterations: int = 1
    instructions: list[Instruction] = field(default_factory=list)


@dataclass(frozen=True)
class Program:
    """A program on `qubits` qubits, with a measurement bit for each."""

    qubits: int
    subcircuits: list[Subcircuit]


def read_program(lexer: Lexer) -> Program:
    """Read all of it; what isn't cQASM 1.0, or isn't covered here, is a CircuitError with line and column."""
    lexer.skip_ends()
    lexer.expect("version")
    lexer.number("the version")
    _end(lexer)
    lexer.skip_ends()
    at = lexer.expect("qubits").at
    qubits = lexer.whole("the number of qubits", 1, 10**9)
    if qubits > MAX_QUBITS:
        what = f"the circuit has {qubits} qubits; the maximum is {MAX_QUBITS}"
        raise lexer.error(at, what, "Declare only the qubits you use.")
    lexer.names["q"] = Qubits(tuple(range(qubits)))
    lexer.names["b"] = Bits(tuple(range(qubits)))
    _end(lexer)
    program = Program(qubits, [Subcircuit(0)])
    lexer.skip_ends()
    while not lexer.exhausted:
        _statement(lexer, program)
        lexer.skip_ends()
    return program


def _statement(lexer: Lexer, program: Program) -> None:
    if lexer.now.text == ".":
        program.subcircuits.append(_header(lexer))
    elif lexer.now.text == "map" and lexer.now.kind == "name":
        lexer.take()
        _map(lexer)
    else:
        program.subcircuits[-1].instructions += _bundle(lexer)
    _end(lexer)


def _end(lexer: Lexer) -> None:
    if lexer.now.kind != "end":
        hint = COMMENTS if lexer.now.text == "//" else ""
        raise lexer.error(lexer.now.at, f"expected the end of the line, not {lexer.describe_next()}", hint)


def _header(lexer: Lexer) -> Subcircuit:
    """`.name` or `.name(iterations)`."""
    at = lexer.expect(".").at
    lexer.expect_name()
    if not lexer.take_if("("):
        return Subcircuit(at)
    iterations = lexer.whole("the number of iterations", 1, _MOST_ITERATIONS)
    lexer.expect(")")
    return Subcircuit(at, iterations)


def _map(lexer: Lexer) -> None:
    """`map q[0], name` or `map name = q[0]`."""
    # Both may begin with a name; only the next token differs.
    name = lexer.take_if_before("=")
    if name is not None:
        lexer.expect("=")
        lexer.names[name.text] = lexer.value()
        return
    value = lexer.value()
    lexer.expect(",")
    lexer.names[lexer.expect_name().text] = value


def _bundle(lexer: Lexer) -> list[Instruction]:
    """Instructions at the same time: `a | b`, or lines of those in braces."""
    if not lexer.take_if("{"):
        return _checked(lexer, _parallel(lexer))
    found: list[Instruction] = []
    lexer.skip_ends()
    while not lexer.take_if("}"):
        if lexer.exhausted:
            raise lexer.error(lexer.now.at, "expected '}'")
        found += _parallel(lexer)
        lexer.skip_ends()
    return _checked(lexer, found)


def _parallel(lexer: Lexer) -> list[Instruction]:
    found = [_instruction(lexer)]
    while lexer.take_if("|"):
        found.append(_instruction(lexer))
    return found


def _checked(lexer: Lexer, bundle: list[Instruction]) -> list[Instruction]:
    """A bundle whose instructions can be at the same time."""
    alone = [each for each in bundle if each.name in {"measure_all", "skip"} | _NO_RESULTS]
    if alone and len(bundle) > 1:
        raise lexer.error(alone[0].at, f"{alone[0].name!r} cannot run in parallel with other instructions")
    used: set[int] = set()
    for instruction in bundle:
        for operand in instruction.operands:
            if isinstance(operand, Qubits):
                again = used.intersection(operand.indices)
                if again:
                    what = f"qubit {min(again)} is used twice at the same time"
                    raise lexer.error(instruction.at, what, "Use different qubits.")
                used.update(operand.indices)
    return [each for each in bundle if each.name not in _NO_RESULTS]


def _instruction(lexer: Lexer) -> Instruction:
    if lexer.now.kind != "name":
        raise lexer.error(lexer.now.at, f"expected an instruction, not {lexer.describe_next()}")
    token = lexer.take()
    if token.text == "c" and lexer.now.text == "-":
        raise _refusal(lexer, token, "cond")
    if token.text in _REFUSED:
        raise _refusal(lexer, token, token.text)
    if token.text in _NO_RESULTS:
        lexer.skip_statement()
        return Instruction(token.text, (), token.at)
    operands: list[Operand] = []
    if lexer.now.kind != "end" and lexer.now.text not in {"|", "}"}:
        operands.append(lexer.value())
        while lexer.take_if(","):
            operands.append(lexer.value())
    return Instruction(token.text, tuple(operands), token.at)


def _refusal(lexer: Lexer, token: Token, kind: str) -> Exception:
    return lexer.error(token.at, f"{token.text!r}: {_REFUSED[kind]}", _HINTS.get(kind, ""))
