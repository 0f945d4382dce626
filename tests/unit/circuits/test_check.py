from __future__ import annotations

import pytest

from qslurm.circuits.check import check_circuit
from qslurm.errors import CircuitError
from qslurm.payload.sweep import filled

HEAD = "version 3.0\nqubit[2] q\nbit[2] b\n"


def refused(text: str, **options: object) -> CircuitError:
    with pytest.raises(CircuitError) as caught:
        check_circuit(text, file="bell.cq", **options)  # type: ignore[arg-type]
    return caught.value


def test_a_circuit_is_described() -> None:
    facts = check_circuit(
        "version 3.0; qubit[3] q; bit c; bit[2] b; H q; b = measure q[0, 2]; c = measure q[1]"
    )
    assert (facts.qubits, facts.bits, facts.measurements) == (3, 3, 3)


def test_an_unknown_gate_is_named_with_line_and_column_and_its_nearest_neighbour() -> None:
    error = refused(HEAD + "HH q[0]\nCNOTT q[0], q[1]\nb = measure q\n")
    assert error.message == "bell.cq:4:1: couldn't find instruction 'HH'."
    assert error.hint.startswith("Did you mean 'H'?")
    assert "bell.cq:5:1: couldn't find instruction 'CNOTT'" in error.hint


def test_a_gate_in_the_wrong_case_is_recognised() -> None:
    assert "'CNOT'" in refused(HEAD + "cnot q[0], q[1]\nb = measure q\n").hint


def test_many_errors_are_cut_short() -> None:
    assert "and 19 more" in refused(HEAD + "HH q\n" * 30).hint


def test_a_qubit_that_does_not_exist_is_named() -> None:
    assert refused(HEAD + "X q[5]\nb = measure q").message == "bell.cq:4:3: index 5 out of range (size 2)."


@pytest.mark.parametrize("text", ["", "  \n\n", "// only a comment"])
def test_an_empty_circuit_is_refused_with_the_first_lines_of_a_good_one(text: str) -> None:
    assert "version 3.0" in refused(text).hint


def test_cqasm_1_without_its_version_gets_told_its_first_lines() -> None:
    error = refused("qubits 2\nprep_z q[0]\nmeasure_all\n")
    assert "version 1.0; qubits 2" in error.hint
    assert "version 3.0; qubit[2] q; bit[2] b" in error.hint


def test_openqasm_is_recognised() -> None:
    assert "OpenQASM" in refused("OPENQASM 2.0;\nqreg q[2];\n").hint


def test_a_version_that_does_not_exist_yet_is_refused() -> None:
    assert refused("version 3.1\nqubit q\nbit b\nb = measure q").message.startswith("bell.cq:1:9: ")


def test_a_circuit_that_measures_nothing_is_refused() -> None:
    error = refused("version 3.0\nqubit[2] q\nH q\n")
    assert "measures nothing" in error.message
    assert "b = measure q" in error.hint


def test_too_many_qubits_for_any_backend_are_refused() -> None:
    assert "65 qubits" in refused("version 3.0; qubit[65] q; bit b; b = measure q[0]").message


def test_too_many_qubits_for_this_backend_are_refused() -> None:
    text = "version 3.0; qubit[3] q; bit b; b = measure q[0]"
    check_circuit(text, max_qubits=3)
    assert "3 qubits, the backend has 2" in refused(text, max_qubits=2).message


def test_too_many_shots_for_this_backend_are_refused() -> None:
    assert "2000 shots" in refused(HEAD + "b = measure q", shots=2000, max_shots=1000).message


def test_a_key_of_a_million_bits_is_refused() -> None:
    assert (
        "1000000 classical bits" in refused("version 3.0; qubit q; bit[1000000] b; b[0] = measure q").message
    )


def test_a_nul_is_refused_where_it_stands() -> None:
    assert (
        refused(HEAD + "X q[0]\x00\n").message == "bell.cq:4:7: the character U+0000 is not allowed in cQASM."
    )


def test_letters_of_other_scripts_are_refused_outside_comments_only() -> None:
    assert refused(HEAD + "X ψ\n").message.startswith("bell.cq:4:3: the character 'ψ' (U+03C8)")
    check_circuit(HEAD + "// the state |ψ⟩ \U0001f600\nb = measure q /* 漢字 */")


def test_a_lone_surrogate_is_refused() -> None:
    assert "U+DC80" in refused(HEAD + "X \udc80").message


def test_something_that_is_not_text_is_refused() -> None:
    with pytest.raises(CircuitError, match="bytes"):
        check_circuit(b"version 3.0")  # type: ignore[arg-type]


def test_a_column_after_foreign_letters_in_a_comment_is_right() -> None:
    assert refused(HEAD + "/* é漢字 */ HH q[0]").message.startswith("bell.cq:4:11: ")


def test_line_ends_of_other_systems_and_a_byte_order_mark_are_understood() -> None:
    check_circuit("\ufeffversion 3.0\r\nqubit[2] q\r\nbit[2] b\r\nb = measure q\r\n")


def test_assembly_blocks_keep_their_quotes_and_lines_to_themselves() -> None:
    check_circuit(HEAD + "asm(Lab) ''' say \"hi\"\n b = measure q; \\ '''\nb = measure q")


def test_a_gate_on_the_same_qubit_twice_is_refused() -> None:
    assert refused(HEAD + "X q[0]; CNOT q[1], q[1]\nb = measure q").message.startswith("bell.cq:4:9: ")


@pytest.mark.parametrize("expression", ["1/0", "1 % 0", "1/(2 - 2)", "1/ /* here */ 0"])
def test_a_division_by_zero_is_an_error_and_not_the_end_of_the_process(expression: str) -> None:
    assert refused(HEAD + f"Rx({expression}) q[0]\nb = measure q").message.startswith("bell.cq:4:1: ")


@pytest.mark.parametrize(
    "gate",
    [
        "Rx(sqrt(-1)) q[0]",
        "Ry(exp(1000)) q[0]",
        "Rz(-exp(1000)) q[0]",
        "Rx(acos(2)) q[0]",
        "Rx((-1)**0.5) q[0]",
        "Rx(1.0/0) q[0]",
        "Rx(0/0.0) q[0]",
        "Rx(log(0)) q[0]",
        "Rx(2**5000) q",
        "CR(sqrt(-2)) q[0], q[1]",
        "CRk(-2000) q[0], q[1]",
        "Rn(1, 0, 0, pi, sqrt(-1)) q[0]",
        "Rn(0, 0, 0, pi, 0) q[0]",
        "Rn(1, 2, 2, pi, 0) q[0]",
        "U(0, exp(1000), 0) q[0]",
        "pow(sqrt(-1)).X q[0]",
        "ctrl.Rx(sqrt(-1)) q[0], q[1]",
        "inv.pow(2).Ry(asin(3)) q[0]",
    ],
)
def test_a_gate_that_is_no_rotation_is_refused_where_it_stands(gate: str) -> None:
    """QX gives counts for it all the same."""
    assert refused(HEAD + f"H q[0]; {gate}\nb = measure q").message.startswith("bell.cq:4:9: ")


@pytest.mark.parametrize(
    "gate",
    [
        "Rx(1.0e300) q[0]",
        "CRk(-1000) q[0], q[1]",
        "CRk(2000) q[0], q[1]",
        "Rn(0, 0, 1, pi, 0) q",
        "U(pi, 0, -pi) q",
        "pow(1/2).X q[0]",
        "inv.Z90 q",
        "wait(3) q",
    ],
)
def test_every_other_number_is_left_alone(gate: str) -> None:
    assert check_circuit(HEAD + f"{gate}\nb = measure q").qubits == 2


@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "1e400", "1.0e400", "sqrt(-1)"])
def test_a_parameter_that_is_not_finite_is_refused_where_it_is_used(value: str) -> None:
    """As --set and --sweep put it there."""
    text = filled(HEAD + "Rx({{ theta }}) q[0]\nb = measure q", {"theta": value})
    assert refused(text).message.startswith("bell.cq:4:")


@pytest.mark.parametrize(
    "expression", ["1/0", "1.0/0", "0/0", "(-1)**0.5", "sqrt(-1)", "exp(1000)", "acos(2)"]
)
def test_so_it_is_in_cqasm_1(expression: str) -> None:
    text = f"version 1.0\nqubits 1\nrx q[0], {expression}\nmeasure_all\n"
    assert refused(text).message.startswith("bell.cq:3:")


@pytest.mark.parametrize("index", ["0:99999999999", "0:2**40", "0:9999*9999*9999"])
def test_a_huge_index_does_not_fill_the_memory(index: str) -> None:
    assert refused(HEAD + f"X q[{index}]\nb = measure q").message.startswith("bell.cq:4:")


@pytest.mark.parametrize("expression", ["pi/2", "1/2", "1/(3 - 2)", "1/-2", "2/pi", "1.0/0.5"])
def test_other_divisions_are_left_alone(expression: str) -> None:
    check_circuit(HEAD + f"Rx({expression}) q[0]\nb = measure q")


@pytest.mark.parametrize(
    "statement",
    [
        "Rx(" + "(" * 50_000 + "1" + ")" * 50_000 + ") q",
        "Rx(" + "-" * 50_000 + "1) q",
        "inv." * 50_000 + "X q",
    ],
    ids=["brackets", "signs", "modifiers"],
)
def test_nesting_that_would_end_the_process_is_refused(statement: str) -> None:
    assert refused(HEAD + statement + "\nb = measure q").message.startswith("bell.cq:4:1: ")


def test_many_modifiers_are_refused() -> None:
    assert "nested" in refused(HEAD + "inv." * 900 + "X q[0]\nb = measure q").message


@pytest.mark.parametrize("text", ["/* " * 300_000, "'" * 300_000, "''' " * 200_000, "\x01" * 10, "[" * 3000])
def test_rubbish_is_refused_quickly(text: str) -> None:
    refused(text)


def test_declarations_of_one_circuit_do_not_leak_into_the_next() -> None:
    check_circuit(HEAD + "b = measure q")
    check_circuit(HEAD + "X q; b = measure q")
