"""Reads a job's circuit or hybrid file before the job is admitted, in a process of its own.

libqasm can crash its process (deeply nested brackets overflow its stack) and takes seconds for large circuits;
neither may happen to the dispatcher.
"""

from __future__ import annotations

import os
import subprocess
import sys

import msgspec

from qslurm.errors import QslurmError
from qslurm.payload.envelope import Envelope
from qslurm.system.child_process import command, end_with, limit_memory, restrain

LIMIT_S = 3.0
"""A source that takes longer is read again by its execution, under a longer limit."""


MEMORY = 2 << 30
"""Bytes that reading may take."""

LONG_SOURCE = 64 * 1024
"""Characters of a source that is read at a lower priority."""


class _Task(msgspec.Struct):
    parent: int
    max_qubits: int
    envelope: Envelope


def refusal_reason(envelope: Envelope, max_qubits: int) -> str:
    """Why the job's data cannot be executed, with line and column; "" if it can."""
    if envelope.kind == "session":
        return "" if envelope.session else "The session has no client key."
    task = _Task(os.getpid(), max_qubits, envelope)
    try:
        result = subprocess.run(
            command(__name__),
            input=msgspec.msgpack.encode(task),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            timeout=LIMIT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return ""
    if result.returncode < 0:
        return f"Cannot read {envelope.file}: the reader was killed by signal {-result.returncode}."
    if result.returncode != 0:
        return f"Cannot read {envelope.file}: the reader exited with status {result.returncode}."
    return result.stdout.decode()


def main() -> None:
    """The process's main function: reads a _Task from standard input and writes the reason to standard output."""
    task = msgspec.msgpack.decode(sys.stdin.buffer.read(), type=_Task)
    end_with(task.parent)
    restrain()
    limit_memory(MEMORY)
    envelope = task.envelope
    if len(envelope.source) > LONG_SOURCE:
        os.nice(10)  # short sources first
    try:
        if envelope.kind == "circuit":
            from qslurm.circuits.check import check_circuit

            check_circuit(envelope.source, file=envelope.file, max_qubits=task.max_qubits)
        elif envelope.kind == "hybrid":
            from qslurm.runtimes.hybrid.hybrid_file import check_hybrid

            check_hybrid(envelope.source, envelope.file)
    except QslurmError as error:
        sys.stdout.write(str(error))
