"""Translates OpenQASM 2 and 3 to cQASM 3.0 with Qiskit (the extra qslurm[qiskit]).

The user's own process does that (`qslurm run`, `qslurm submit`, `qi.execute_circuit`): C2 needs no Qiskit, and an
`include` reads only files that the user may read. Qiskit parses the program and decomposes its gates into cQASM's.
"""

from __future__ import annotations

import bisect
import io
import math
import re
from contextlib import redirect_stderr
from typing import TYPE_CHECKING, Any

from qslurm.circuits.text import MAX_CHARACTERS, as_number
from qslurm.errors import CircuitError

if TYPE_CHECKING:
    from qiskit import QuantumCircuit

_GATES = {
    # Qiskit's name: cQASM's; the same matrix up to a global phase
    "id": "I",
    "h": "H",
    "x": "X",
    "y": "Y",
    "z": "Z",
    "s": "S",
    "sdg": "Sdag",
    "t": "T",
    "tdg": "Tdag",
    "sx": "X90",
    "sxdg": "mX90",
    "rx": "Rx",
    "ry": "Ry",
    "rz": "Rz",
    "cx": "CNOT",
    "cz": "CZ",
    "swap": "SWAP",
    "cp": "CR",
}
_FIRST_WORD = re.compile(r"(?>\s|//[^\n]*+|/\*.*?\*/)*+OPENQASM\s+(\d+)", re.DOTALL)
_PLACE = re.compile(r"^(?:(?P<file>[^\n:]+):)?(?P<line>\d+),(?P<column>\d+): (?P<what>.*)", re.DOTALL)
_BEFORE = re.compile(r"(?>\s|//[^\n]*+|/\*.*?\*/)*+", re.DOTALL)
_STATEMENT_END = re.compile(r"//[^\n]*|/\*.*?(?:\*/|\Z)|\"[^\"\n]*\"|[{};]", re.DOTALL)
_GRAMMAR = re.compile(r"^line (\d+):(\d+) (.*)$", re.MULTILINE)
_FEEDBACK = {
    "if_else",
    "while_loop",
    "for_loop",
    "switch_case",
    "break_loop",
    "continue_loop",
    "store",
    "box",
}


def as_cqasm(text: str, file: str) -> str:
    """The circuit in cQASM: translated from OpenQASM, or unchanged.

    CircuitError if that is not possible, with line and column if Qiskit reports them.
    """
    found = _FIRST_WORD.match(text)
    if found is None:
        return text
    if len(text) > MAX_CHARACTERS:
        raise CircuitError(
            f"{file}: the circuit is {len(text)} characters long; the maximum is {MAX_CHARACTERS}."
        )
    circuit = _read(text, found[1], file)
    if _is_infinite(circuit) or _is_infinite(circuit := _rewritten(circuit, file)):
        raise CircuitError(
            f"{_where_infinite(text, found[1], file)}: a parameter of a gate is not a finite number.",
            hint="Check for roots or logarithms of negative numbers, and for numbers that are too large.",
        )
    return _written(circuit, file)


def _is_infinite(circuit: QuantumCircuit) -> bool:
    """Whether a gate has an infinite or NaN parameter."""
    numbers = (each for one in circuit.data for each in one.operation.params if isinstance(each, float))
    return not all(map(math.isfinite, numbers))


def _where_infinite(text: str, version: str, file: str) -> str:
    """The file and line of the first statement with such a parameter.

    Qiskit keeps no positions. So this reads the program up to each statement outside of braces, by bisection.
    """
    ends, depth = [], 0
    for match in _STATEMENT_END.finditer(text):
        depth += {"{": 1, "}": -1}.get(match[0], 0)
        if match[0] in {";", "}"} and not depth:
            ends.append(match.end())

    def is_infinite(end: int) -> bool:
        try:
            circuit = _read(text[:end], version, file)
            return _is_infinite(circuit) or _is_infinite(_rewritten(circuit, file))
        except CircuitError:
            return False

    first = bisect.bisect_left(ends, True, key=is_infinite)
    if first == len(ends):
        return file
    begin = _BEFORE.match(text, ends[first - 1] if first else 0)
    return f"{file}:{text.count(chr(10), 0, begin.end() if begin else 0) + 1}"


def _read(text: str, version: str, file: str) -> QuantumCircuit:
    if version not in {"2", "3"}:
        raise CircuitError(
            f"{file}: unsupported OpenQASM version {version}.", hint="Use OpenQASM 2.0 or 3.0."
        )
    try:
        from qiskit import QuantumCircuit, qasm3
        from qiskit.exceptions import MissingOptionalLibraryError, QiskitError
    except ImportError as error:
        raise _missing(file) from error
    stderr = io.StringIO()
    try:
        with redirect_stderr(stderr):  # the parser of OpenQASM 3 prints positions of errors there
            return QuantumCircuit.from_qasm_str(text) if version == "2" else qasm3.loads(text)
    except MissingOptionalLibraryError as error:
        raise _missing(file) from error
    except QiskitError as error:
        raise _located(error.message, file) from error
    except Exception as error:  # Qiskit's OpenQASM 3 importer raises any exception for unsupported programs
        if (found := _GRAMMAR.search(stderr.getvalue())) is not None:
            raise _located(f"{found[1]},{found[2]}: {found[3]}", file) from error
        raise CircuitError(
            f"{file}: Qiskit cannot read this circuit: {error}.", hint="Simplify the circuit."
        ) from error


def _missing(file: str) -> CircuitError:
    return CircuitError(
        f"{file}: OpenQASM needs Qiskit, which is not installed.",
        hint="Run pip install 'qslurm[qiskit]', or use cQASM.",
    )


def _located(message: str, file: str) -> CircuitError:
    found = _PLACE.match(message)
    if found is None:
        return CircuitError(f"{file}: {message.rstrip('.')}.")
    where = found["file"] if found["file"] not in {None, "<input>"} else file
    return CircuitError(f"{where}:{found['line']}:{int(found['column']) + 1}: {found['what'].rstrip('.')}.")


def _rewritten(circuit: QuantumCircuit, file: str) -> QuantumCircuit:
    """The circuit decomposed into cQASM's gates."""
    from qiskit import transpile
    from qiskit.exceptions import QiskitError

    for each in circuit.data:
        if each.operation.name in _FEEDBACK:
            raise CircuitError(
                f"{file}: unsupported {each.operation.name!r}: control flow by measured bits is not available.",
                hint="Remove the feedback, or use a hybrid file that reads the results.",
            )
    if circuit.parameters:
        names = ", ".join(sorted(each.name for each in circuit.parameters))
        raise CircuitError(f"{file}: no value given for {names}.", hint="Write the numbers into the circuit.")
    try:
        return transpile(circuit, basis_gates=list(_GATES), optimization_level=0)
    except QiskitError as error:
        raise CircuitError(
            f"{file}: {error.message.rstrip('.')}.", hint="Define the gate, or use other gates."
        ) from error


def _written(circuit: QuantumCircuit, file: str) -> str:
    lines = ["version 3.0", f"qubit[{circuit.num_qubits}] q"]
    if circuit.num_clbits:
        lines.append(f"bit[{circuit.num_clbits}] b")
    for each in circuit.data:
        qubits = ", ".join(f"q[{circuit.find_bit(qubit).index}]" for qubit in each.qubits)
        bits = ", ".join(f"b[{circuit.find_bit(bit).index}]" for bit in each.clbits)
        lines += _statements(each.operation, qubits, bits, file)
    return "\n".join(lines) + "\n"


def _statements(operation: Any, qubits: str, bits: str, file: str) -> list[str]:
    name = operation.name
    if name in _GATES:
        numbers = ", ".join(as_number(float(each)) for each in operation.params)
        return [f"{_GATES[name]}{f'({numbers})' if numbers else ''} {qubits}"]
    if name == "measure":
        return [f"{bits} = measure {qubits}"]
    if name == "reset":
        return [f"reset {qubits}"]
    if name == "barrier":
        return [f"barrier {qubit}" for qubit in qubits.split(", ")]
    if name == "delay" and operation.unit == "dt":
        return [f"wait({int(operation.duration)}) {qubits}"]
    if name == "delay":
        raise CircuitError(f"{file}: cannot translate a delay in {operation.unit}.", hint="Use dt (cycles).")
    raise CircuitError(
        f"{file}: {name!r} is not available in cQASM.", hint="Use only gates and measurements."
    )
