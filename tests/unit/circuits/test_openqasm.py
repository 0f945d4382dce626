"""OpenQASM through Qiskit, compared with Qiskit's own idea of the circuit; without Qiskit, what is said."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

from qslurm.circuits.openqasm import as_cqasm
from qslurm.errors import CircuitError
from qslurm.runtimes.qx import simulate
from tests.unit.circuits.statevector import assert_follows

HAS_QISKIT = all(importlib.util.find_spec(name) for name in ("qiskit", "qiskit_qasm3_import"))
needs_qiskit = pytest.mark.skipif(not HAS_QISKIT, reason="needs the extra qslurm[qiskit]")

HEAD_2 = 'OPENQASM 2.0;\ninclude "qelib1.inc";\nqreg q[2]; qreg r[1];\ncreg c[2]; creg d[1];\n'
HEAD_3 = 'OPENQASM 3.0;\ninclude "stdgates.inc";\nqubit[2] q; bit[2] c;\n'


def refused(text: str) -> CircuitError:
    with pytest.raises(CircuitError) as caught:
        as_cqasm(text, "old.qasm")
    return caught.value


@pytest.mark.parametrize(
    "text", ["version 3.0", "version 1.0", "", "# OPENQASM 2.0", "// OPENQASM 2.0;\nversion 3.0"]
)
def test_what_is_no_openqasm_is_left_alone(text: str) -> None:
    assert as_cqasm(text, "some.cq") == text


def test_without_qiskit_one_sentence_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "qiskit", None)
    error = refused("// a comment\nOPENQASM 2.0;\nqreg q[1];\n")
    assert error.message.count(".") == 2  # old.qasm and the end of the sentence
    assert "qslurm[qiskit]" in error.hint


def test_a_version_from_the_future_is_refused() -> None:
    assert "unsupported OpenQASM version 4" in refused("OPENQASM 4;").message


@needs_qiskit
@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("seed", range(30))
def test_a_translated_circuit_has_the_probabilities_that_qiskit_computes(version: int, seed: int) -> None:
    from qiskit import qasm2, qasm3
    from qiskit.circuit.random import random_circuit
    from qiskit.quantum_info import Statevector

    circuit = random_circuit(3, 4, max_operands=3, seed=seed).decompose(["unitary"])
    expected = Statevector(circuit).probabilities_dict()
    circuit.measure_all()
    text = qasm2.dumps(circuit) if version == 2 else qasm3.dumps(circuit)
    assert_follows(simulate(as_cqasm(text, "random.qasm"), 1000, seed=seed).counts, expected)


@needs_qiskit
def test_registers_stand_one_behind_the_other_the_first_rightmost() -> None:
    text = HEAD_2 + "x r[0]; x q[1]; measure q -> c; measure r -> d;"
    assert simulate(as_cqasm(text, "x.qasm"), 4).counts == {"110": 4}


@needs_qiskit
def test_what_is_no_gate_is_translated_too() -> None:
    text = (
        HEAD_3
        + "x q[0]; barrier q; delay[100dt] q[1]; reset q[0]; gate two a { x a; x a; x a; } two q[1]; c = measure q;"
    )
    program = as_cqasm(text, "x.qasm")
    assert "wait(100) q[1]\n" in program
    assert simulate(program, 4).counts == {"10": 4}


@needs_qiskit
def test_a_small_angle_is_written_as_cqasm_has_it() -> None:
    assert "Rx(1.0e-07) q[0]" in as_cqasm(HEAD_3 + "rx(1e-7) q[0];", "x.qasm")


@needs_qiskit
@pytest.mark.parametrize(
    ("text", "message"),
    [
        (HEAD_2 + "  foo q[0];", "old.qasm:5:3: "),
        (HEAD_3 + "  foo q[0];", "old.qasm:4:3: "),
        (HEAD_2 + "if (c==1) x q[0];", "if_else"),
        (HEAD_3 + "c[0] = measure q[0]; if (c[0]) { x q[1]; }", "if_else"),
        (HEAD_3 + "h q[5];", "Qiskit cannot read"),
        (HEAD_3 + "input float theta; rx(theta) q[0];", "no value given for theta"),
        (HEAD_3 + "delay[100ns] q[0];", "delay"),
        (HEAD_2 + "opaque foo a; foo q[0];", "foo"),
        ("OPENQASM 2.0;\nqreg q[", "old.qasm:2:"),
        ("OPENQASM 3.0;\nqubit[", "old.qasm:2:7: "),
        ("OPENQASM 2.0;\n" + "(" * 100_000, "old.qasm"),
    ],
)
def test_what_can_not_be_translated_is_refused(text: str, message: str) -> None:
    assert message in refused(text).message


@needs_qiskit
def test_openqasm_runs_wherever_a_circuit_is_handed_over(tmp_path: Path) -> None:
    from qslurm.local.run_file import run_file

    text = HEAD_2 + "x q[0]; measure q -> c;"
    file = tmp_path / "x.qasm"
    file.write_text(text)
    assert run_file(file, shots=4).counts == {"001": 4}
    hybrid = tmp_path / "x.py"
    hybrid.write_text(
        f"def execute(qi): qi.execute_circuit({text!r}, 4)\ndef finalize(measured): return measured[0]\n"
    )
    assert run_file(hybrid).final_result == {"001": 4}


@needs_qiskit
@pytest.mark.parametrize(
    ("head", "statement"),
    [
        (HEAD_2, "rx(exp(1000)) q[0];"),
        (HEAD_2, "cp(-exp(1000)) q[0], q[1];"),
        (HEAD_2, "rz (exp(800)*2)\nq[1];"),
        (HEAD_2, "u(exp(1000), 0, 0) q;"),
        (HEAD_3, "rx(1e400) q[0];"),
        (HEAD_3, "rx(exp(1000)) q[0];"),
        (HEAD_3, "U(0, 2e308, 0) q[1];"),
    ],
)
def test_an_angle_that_is_not_finite_is_refused_with_its_line(head: str, statement: str) -> None:
    text = f"{head}h q[0];\n// rx(1); {{\n/* 0; */ {statement}\nx q[1];\n"
    line = text[: text.index(statement)].count("\n") + 1
    assert refused(text).message.startswith(f"old.qasm:{line}:")


@needs_qiskit
@pytest.mark.parametrize("statement", ["rx(sqrt(-1)) q[0];", "rx(1/0) q[0];", "rx(ln(0)) q[0];"])
def test_what_qiskit_can_not_compute_is_refused_with_its_line(statement: str) -> None:
    assert refused(HEAD_2 + f"h q[0];\n{statement}\nmeasure q -> c;\n").message.startswith("old.qasm:6:")


@needs_qiskit
def test_such_an_angle_in_a_gate_s_definition_is_refused_where_the_gate_is_used() -> None:
    text = HEAD_2 + "gate foo a {\nh a;\nrx(exp(1000)) a;\n}\nx q[0];\nfoo q[1];\nmeasure q -> c;\n"
    assert refused(text).message.startswith("old.qasm:10:")
