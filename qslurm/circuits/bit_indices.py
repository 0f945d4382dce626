"""Rewrites a program so that every qubit is measured into the bit with its own index.

For platforms whose results may be indexed by qubit or by bit.
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

    The last `qubits` characters of the new program's results are the values, whichever way the platform indexes them;
    the circuit's own bits come before them and are unused. A circuit with such bits is returned unchanged.
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
