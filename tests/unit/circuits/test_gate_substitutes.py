"""Gates that QX executes and libqasm 1.2 does not know are read as what they are, whichever libqasm is installed."""

from __future__ import annotations

import cmath
import math

import pytest
from testbed.layout import CHECKOUT

from qslurm.circuits import gate_substitutes
from qslurm.circuits.check import check_circuit
from qslurm.circuits.operations import QuantumGate, read_circuit
from qslurm.errors import CircuitError
from qslurm.runtimes.qx import simulate

HEAD = "version 3.0\nqubit[2] q\nbit[2] b\n"


@pytest.fixture(autouse=True)
def older(monkeypatch: pytest.MonkeyPatch) -> None:
    """The program is read as by libqasm 1.2; with a newer one installed this changes nothing that can be seen."""
    monkeypatch.setattr(gate_substitutes, "are_needed", lambda: True)
    check_circuit.__globals__["_cached_facts"].cache_clear()


@pytest.mark.parametrize(
    ("gates", "counts"),
    [
        ("H q[0]; Z90 q[0]; Z90 q[0]; H q[0]", {"01": 100}),
        ("H q[0]; mZ90 q[0]; Z90 q[0]; H q[0]", {"00": 100}),
        ("U(pi, 0, pi) q[0]", {"01": 100}),
        ("U (pi, 0, pi) q[0, 1] // U(1)", {"11": 100}),
        ("X q[0]; ctrl.U(pi, 0, pi) q[0], q[1]", {"11": 100}),
        ("H q[0]; pow(2).Z90 q[0]; /* U(1, 2) Z90 */ H q[0]", {"01": 100}),
    ],
)
def test_they_are_executed_as_written(gates: str, counts: dict[str, int]) -> None:
    assert simulate(HEAD + gates + "\nb = measure q\n", 100).counts == counts


@pytest.mark.parametrize("name", ["U", "Z90x", "X90"])
def test_a_register_may_have_any_name(name: str) -> None:
    assert simulate(
        f"version 3.0; qubit[2] {name}; bit b; X {name}[1]; b = measure {name}[1]", 10
    ).counts == {"1": 10}


@pytest.mark.parametrize(
    ("gates", "message"),
    [
        ("U(1, 2) q[0]", "c.cq:4:1: instruction 'U' expects 3 parameters, but got 2."),
        ("U(0, 0, 0) q[0]; Foo q[1]", "c.cq:4:18: couldn't find instruction 'Foo'."),
        ("U(0, 0, 0) q[0]; U(0, 0, 0) q[7]", "c.cq:4:29: index 7 out of range"),
        ("Z90 q[0], q[1]", "c.cq:4:1: failed to resolve instruction 'Z90'"),
    ],
)
def test_errors_are_about_the_program_as_it_was_written(gates: str, message: str) -> None:
    with pytest.raises(CircuitError) as caught:
        check_circuit(HEAD + gates + "\nb = measure q\n", file="c.cq")
    assert caught.value.message.startswith(message)


def test_the_extras_environment_runs_this_with_the_libqasm_that_needs_it() -> None:
    text = (CHECKOUT / "scripts/test").read_text()
    assert (
        "test_gate_substitutes" in text.split("EXTRAS_PYTHON", 1)[1] or "{openqasm,gate_substitutes}" in text
    )


def test_what_was_replaced_is_read_as_it_was_written() -> None:
    text = "version 3.0; qubit[2] q; bit b; ctrl.inv.U(0.1, pi/3, 3) q[0], q[1]; Z90 q[0]; mZ90 q; b = measure q[0]"
    controlled, *quarters = [
        each for each in read_circuit(text, "c").operations if isinstance(each, QuantumGate)
    ]
    expected = (math.cos(0.05), cmath.exp(-1j * math.pi / 3) * math.sin(0.05))
    assert controlled.rotation.matrix()[:2] == pytest.approx((expected[0], expected[1]))
    assert [(each.rotation.z, round(each.rotation.angle, 3), each.target) for each in quarters] == [
        (1, 1.571, 0), (1, -1.571, 0), (1, -1.571, 1)
    ]  # fmt: skip
