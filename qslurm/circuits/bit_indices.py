"""Rewrites a program so that qubit and bit indexes of its results agree.

For platforms of which one can't know: every qubit is measured into the bit of its own number.
"""

from __future__ import annotations

import re

import msgspec

from qslurm.circuits.analysis import analyze
from qslurm.circuits.check import Readout, Registers
from qslurm.circuits.text import read_text
from qslurm.errors import CircuitError


def indexed_by_qubit(readout: Readout, file: str) -> Readout:
    """The same program with each measured bit numbered as its qubit.

    In a result of the new program the last `qubits` characters count, however the platform reads it: the bits
    that the circuit declares itself stand before them, and are not used any more. A circuit that is like that
    already stays as it is.
    """
    if readout.sources == tuple(range(readout.qubits)):
        return readout
    read = read_text(readout.program, file)
    tree = analyze(read, file)
    registers = Registers.of(tree["variables"])
    name = "by_qubit"
    while re.search(rf"\b{name}\b", read.program):
        name += "_"
    program = read.program
    statements = tree["block"]["Block"]["statements"]
    if len(statements) != len(read.steps):
        raise CircuitError(f"{file}: cannot convert the circuit to the form that its platform needs.")
    for step, statement in reversed(list(zip(read.steps, statements, strict=True))):
        instruction = statement.get("NonGateInstruction") or {}
        if instruction.get("name") == "measure":
            qubits = registers.indices(instruction["operands"][-1])
            text = "; ".join(f"{name}[{at}] = measure {registers.names[at]}" for at in qubits)
            program = f"{program[: step.start]}{text}{program[step.end :]}"
    at = read.statements[0].end
    program = f"{program[:at]}; bit[{registers.qubits}] {name}{program[at:]}"
    return msgspec.structs.replace(readout, program=program)
