"""Reads a cQASM 1.0 program: from its words to sub-circuits of instructions with their operands computed.

The grammar is that of the cQASM 1.x language reference ("Statements", "Instructions"); programs that say
version 1.1 or 1.2 are read too, as long as they use nothing that 1.0 doesn't have.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from qslurm.circuits.cqasm1.tokens import COMMENTS, Bits, Qubits, Value, Word, Words
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
    """A gate, preparation, measurement or wait: its name in lower case, its operands, where it stands."""

    name: str
    operands: tuple[Value, ...]
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


def read_program(words: Words) -> Program:
    """Read all of it; what isn't cQASM 1.0, or isn't covered here, is a CircuitError with line and column."""
    words.skip_ends()
    words.expect("version")
    words.number("the version")
    _end(words)
    words.skip_ends()
    at = words.expect("qubits").at
    qubits = words.whole("the number of qubits", 1, 10**9)
    if qubits > MAX_QUBITS:
        what = f"the circuit has {qubits} qubits; the maximum is {MAX_QUBITS}"
        raise words.error(at, what, "Declare only the qubits you use.")
    words.names["q"] = Qubits(tuple(range(qubits)))
    words.names["b"] = Bits(tuple(range(qubits)))
    _end(words)
    program = Program(qubits, [Subcircuit(0)])
    words.skip_ends()
    while not words.exhausted:
        _statement(words, program)
        words.skip_ends()
    return program


def _statement(words: Words, program: Program) -> None:
    if words.now.text == ".":
        program.subcircuits.append(_header(words))
    elif words.now.text == "map" and words.now.kind == "word":
        words.take()
        _map(words)
    else:
        program.subcircuits[-1].instructions += _bundle(words)
    _end(words)


def _end(words: Words) -> None:
    if words.now.kind != "end":
        hint = COMMENTS if words.now.text == "//" else ""
        raise words.error(words.now.at, f"expected the end of the line, not {words.seen()}", hint)


def _header(words: Words) -> Subcircuit:
    """`.name` or `.name(iterations)`."""
    at = words.expect(".").at
    words.expect_name()
    if not words.take_if("("):
        return Subcircuit(at)
    iterations = words.whole("the number of iterations", 1, _MOST_ITERATIONS)
    words.expect(")")
    return Subcircuit(at, iterations)


def _map(words: Words) -> None:
    """`map q[0], name` or `map name = q[0]`."""
    # Both may begin with a name: only the word after it tells them apart.
    name = words.take_if_before("=")
    if name is not None:
        words.expect("=")
        words.names[name.text] = words.value()
        return
    value = words.value()
    words.expect(",")
    words.names[words.expect_name().text] = value


def _bundle(words: Words) -> list[Instruction]:
    """Instructions at the same time: `a | b`, or lines of those in braces."""
    if not words.take_if("{"):
        return _checked(words, _parallel(words))
    found: list[Instruction] = []
    words.skip_ends()
    while not words.take_if("}"):
        if words.exhausted:
            raise words.error(words.now.at, "expected '}'")
        found += _parallel(words)
        words.skip_ends()
    return _checked(words, found)


def _parallel(words: Words) -> list[Instruction]:
    found = [_instruction(words)]
    while words.take_if("|"):
        found.append(_instruction(words))
    return found


def _checked(words: Words, bundle: list[Instruction]) -> list[Instruction]:
    """A bundle whose instructions can be at the same time."""
    alone = [each for each in bundle if each.name in {"measure_all", "skip"} | _NO_RESULTS]
    if alone and len(bundle) > 1:
        raise words.error(alone[0].at, f"{alone[0].name!r} cannot run in parallel with other instructions")
    used: set[int] = set()
    for instruction in bundle:
        for operand in instruction.operands:
            if isinstance(operand, Qubits):
                again = used.intersection(operand.indices)
                if again:
                    what = f"qubit {min(again)} is used twice at the same time"
                    raise words.error(instruction.at, what, "Use different qubits.")
                used.update(operand.indices)
    return [each for each in bundle if each.name not in _NO_RESULTS]


def _instruction(words: Words) -> Instruction:
    if words.now.kind != "word":
        raise words.error(words.now.at, f"expected an instruction, not {words.seen()}")
    word = words.take()
    if word.text == "c" and words.now.text == "-":
        raise _refusal(words, word, "cond")
    if word.text in _REFUSED:
        raise _refusal(words, word, word.text)
    if word.text in _NO_RESULTS:
        words.skip_statement()
        return Instruction(word.text, (), word.at)
    operands: list[Value] = []
    if words.now.kind != "end" and words.now.text not in {"|", "}"}:
        operands.append(words.value())
        while words.take_if(","):
            operands.append(words.value())
    return Instruction(word.text, tuple(operands), word.at)


def _refusal(words: Words, word: Word, kind: str) -> Exception:
    return words.error(word.at, f"{word.text!r}: {_REFUSED[kind]}", _HINTS.get(kind, ""))
