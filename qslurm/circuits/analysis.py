"""Analyzes a cQASM program with libqasm: its semantic tree, or helpful errors."""

from __future__ import annotations

import difflib
import os
import re
import sys
from typing import Any

import msgspec

from qslurm.circuits import gate_substitutes
from qslurm.circuits.text import Text, place
from qslurm.errors import CircuitError

GATES = [
    *["I", "H", "X", "Y", "Z", "S", "T", "Sdag", "Tdag", "X90", "Y90", "Z90", "mX90", "mY90", "mZ90"],
    *["Rx", "Ry", "Rz", "Rn", "U", "CNOT", "CZ", "CR", "CRk", "SWAP"],
]
INSTRUCTIONS = ["measure", "reset", "init", "barrier", "wait"]
"""Instructions of cQASM that are not gates."""
FIRST_LINES = "A cQASM 3.0 circuit begins with: version 3.0; qubit[2] q; bit[2] b"

_OLD = re.compile(r"^[ \t]*(?:version[ \t]+2\b|qubits[ \t]+\d|measure_all\b|prep_z\b)", re.MULTILINE)
_ANALYSIS_LIMIT_S = 60.0
_ANALYSIS_MEMORY = 512 * 1024**2
_ANALYZE = (
    "import resource, sys; from libqasm import V3xAnalyzer; "
    f"resource.setrlimit(resource.RLIMIT_AS, ({_ANALYSIS_MEMORY},) * 2); "
    "print(V3xAnalyzer('3.0').analyze_string_to_json(sys.stdin.read()), end='')"
)


def analyze(read: Text, file: str) -> dict[str, Any]:
    """Return libqasm's semantic tree of a program; its errors become one CircuitError."""
    program_read = (
        gate_substitutes.with_substitutes(read.program) if gate_substitutes.are_needed() else read.program
    )
    answer = _ask_libqasm_apart(program_read, read, file) if read.risky else _ask_libqasm(program_read)
    try:
        tree = msgspec.json.decode(answer.replace("\n", " "))  # line ends of asm blocks come unescaped
    except RecursionError as error:
        raise CircuitError(
            f"{file}: the circuit is nested too deeply.", hint="Use fewer modifiers on one gate."
        ) from error
    if "errors" in tree:
        errors = tree["errors"]
        if program_read is not read.program:
            errors = [gate_substitutes.undone(error, read.program) for error in errors]
        raise _error(errors, read, file)
    program: dict[str, Any] = tree["Program"]
    return program


def _ask_libqasm(program: str) -> str:
    from libqasm import V3xAnalyzer

    # A new analyzer for each program: declarations stay in an analyzer.
    answer: str = V3xAnalyzer("3.0").analyze_string_to_json(program)
    return answer


def _ask_libqasm_apart(program: str, read: Text, file: str) -> str:
    """Analyze in a child process, which may crash or run out of memory."""
    import subprocess

    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    try:
        done = subprocess.run(
            [sys.executable, "-c", _ANALYZE],
            input=program,
            capture_output=True,
            text=True,
            env=environment,
            timeout=_ANALYSIS_LIMIT_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise CircuitError(f"{file}: reading the circuit took too long.", hint="Make it shorter.") from error
    if done.returncode != 0:
        line, column = place(read.program, read.risky[0].start)
        where = f"{file}:{line}:{column}" if len(read.risky) == 1 else file
        raise CircuitError(
            f"{where}: cannot evaluate an expression: it divides by zero, or gives a huge index.",
            hint="Write the computed number into the circuit.",
        )
    return done.stdout


def _error(errors: list[dict[str, Any]], read: Text, file: str) -> CircuitError:
    def one(error: dict[str, Any]) -> str:
        start = error["range"]["start"]
        return f"{file}:{start['line']}:{start['character']}: {error['message']}"

    first, *others = errors
    hints = [_hint(first["message"], read.program)]
    if others:
        shown = "; ".join(map(one, others[:10]))
        more = f"; and {len(others) - 10} more" if len(others) > 10 else ""
        hints.append(f"Also: {shown}{more}.")
    return CircuitError(f"{one(first)}.", hint=" ".join(filter(None, hints)))


def _hint(message: str, program: str) -> str:
    if program.lstrip().startswith("OPENQASM"):
        return "This is OpenQASM, which qslurm run, qslurm submit and qi.execute_circuit translate to cQASM."
    if _OLD.search(program):
        return f"A circuit in cQASM 1.0 begins with: version 1.0; qubits 2. {FIRST_LINES}."
    if (unknown := re.search(r"couldn't find instruction '(\w+)'", message)) is not None:
        by_folded = {gate.casefold(): gate for gate in [*GATES, *INSTRUCTIONS]}
        near = difflib.get_close_matches(unknown.group(1).casefold(), by_folded, n=1, cutoff=0.5)
        return f"Did you mean '{by_folded[near[0]]}'?" if near else f"Available gates: {', '.join(GATES)}."
    if "expecting {NEW_LINE, ';', 'version'}" in message or "unsupported version" in message:
        return FIRST_LINES + "."
    return ""
