"""Hybrid files written for Quantum Inspire, with the platform's own packages (the extra quantum-inspire)."""

from __future__ import annotations

import importlib.util
import logging
from pathlib import Path

import pytest

from qslurm.local.run_file import run_file

NAMES = ("qi2_shared", "qiskit_quantuminspire", "opensquirrel")
pytestmark = [
    pytest.mark.skipif(
        not all(importlib.util.find_spec(name) for name in NAMES),
        reason="needs the extra qslurm[quantum-inspire]",
    ),
    pytest.mark.filterwarnings("default"),  # those packages have warnings of their own
]

QISKIT = """
from __future__ import annotations
from typing import Any, Dict, List

from qi2_shared.hybrid.quantum_interface import QuantumInterface
from qiskit import QuantumCircuit, transpile
from qiskit_quantuminspire.hybrid.hybrid_backend import QIHybridBackend

counts = []

def execute(qi: QuantumInterface) -> None:
    backend = QIHybridBackend(qi)
    bell = QuantumCircuit(3, 3)
    bell.reset(0)
    bell.sx(0)
    bell.rz(3.141592653589793 / 2, 0)
    bell.barrier()
    bell.cx(0, 2)
    bell.measure([0, 1, 2], [0, 1, 2])
    job = backend.run([transpile(bell, backend), bell], shots=300)
    counts.extend(job.result().get_counts())
    shots = backend.run(transpile(bell, backend), shots=20, memory=True).result().get_memory()
    counts.append(len(shots))

def finalize(list_of_measurements: List[Dict[str, Any]]) -> Dict[str, Any]:
    return {"seen": counts, "measured": list_of_measurements}
"""

OPENSQUIRREL = """
from opensquirrel import CircuitBuilder
from opensquirrel.writer import writer

def execute(qi):
    builder = CircuitBuilder(2, 2)
    builder.X(1)
    builder.measure(0, 0)
    builder.measure(1, 1)
    qi.execute_circuit(writer.circuit_to_string(builder.to_circuit()), 7)

def finalize(list_of_measurements):
    return list_of_measurements[0]
"""


OLDER = """
from quantuminspire.sdk.models.circuit import Circuit

def execute(qi):
    with Circuit(platform_name="spin-2", program_name="prgm", number_of_qubits=2) as circuit:
        circuit.ir.H(0)
        circuit.ir.H(0)
        circuit.ir.X(1)
        circuit.ir.measure(0, 0)
        circuit.ir.measure(1, 1)
    qi.execute_circuit(circuit.content, 7)

def finalize(list_of_measurements):
    return list_of_measurements[0]
"""


def test_qiskit_circuits_run_on_the_hybrid_backend(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "bell.py"
    file.write_text(QISKIT)
    with caplog.at_level(logging.WARNING):
        result = run_file(file, seed=4)
    assert result.final_result is not None
    first, second, memory = result.final_result["seen"]
    assert set(first) == set(second) == {"000", "101"}
    assert (sum(first.values()), memory) == (300, 20)
    assert [first, second] == result.final_result["measured"][:2]
    assert result.executions == 3
    assert not [record for record in caplog.records if "native gate" in record.getMessage()]


@pytest.mark.parametrize("source", [OPENSQUIRREL, OLDER], ids=["opensquirrel", "sdk"])
def test_circuits_that_opensquirrel_writes_run(tmp_path: Path, source: str) -> None:
    file = tmp_path / "x.py"
    file.write_text(source)
    assert run_file(file).final_result == {"10": 7}
