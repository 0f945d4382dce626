"""What cQASM 1.0 programs are refused for, and where."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qslurm.circuits.check import check_circuit
from qslurm.circuits.cqasm1.translate import translate
from qslurm.circuits.text import is_cqasm1
from qslurm.errors import CircuitError

HEAD = "version 1.0\nqubits 3\n"


def refused(text: str) -> CircuitError:
    with pytest.raises(CircuitError) as caught:
        check_circuit(text, file="old.cq")
    return caught.value


@pytest.mark.parametrize(
    "text",
    [
        "version 1.0",
        "version 1",
        "VERSION 1.0;qubits 2",
        "# a\n\n /* b\n */ version 1.1",
        "\n;version\t1.0\n",
    ],
)
def test_the_version_line_says_what_a_program_is(text: str) -> None:
    assert is_cqasm1(text)


@pytest.mark.parametrize(
    "text",
    [
        "version 3.0",
        "// version 1.0\nversion 3.0",
        "/* version 1.0 */version 3",
        "version 10",
        "qubits 2",
        "",
    ],
)
def test_other_programs_are_left_alone(text: str) -> None:
    assert not is_cqasm1(text)


@pytest.mark.parametrize(
    ("line", "where", "what"),
    [
        ("foo q[0]", "3:1", "unknown instruction 'foo'"),
        ("  x q[3]", "3:7", "an index is 3; it must be from 0 to 2"),
        ("x q[0:3]", "3:7", "the end of a range is 3; it must be from 0 to 2"),
        ("x q[2:1]", "3:7", "the end of a range is 1; it must be from 2 to 2"),
        ("x q[0,0]", "3:5", "listed twice"),
        ("x q[0.5]", "3:5", "must be an integer"),
        ("x", "3:1", "takes 1 qubit operand"),
        ("x b[0]", "3:1", "takes 1 qubit operand"),
        ("x q[0], q[1]", "3:1", "takes 1 qubit operand"),
        ("rx q[0]", "3:1", "1 qubit operand and an angle"),
        ("rx q[0], q[1]", "3:1", "1 qubit operand and an angle"),
        ("cnot q[0,1], q[2]", "3:1", "different numbers of qubits"),
        ("cnot q[0], q[0]", "3:1", "qubit 0 is used twice"),
        ("x q[0] | h q[1] | y q[0]", "3:19", "qubit 0 is used twice"),
        ("{\nx q[0]\nh q[0]\n}", "5:1", "qubit 0 is used twice"),
        ("measure_all | x q[0]", "3:1", "in parallel"),
        ("{ x q[0]", "5:1", "expected '}'"),
        ("crk q[0], q[1], 0.5", "3:1", "must be an integer"),
        ("crk q[0], q[1], -1", "3:1", "must be an integer"),
        ("wait q[0], 0.5", "3:1", "takes an integer"),
        ("skip q[0], 5", "3:1", "invalid operands"),
        ("measure_all q[0]", "3:1", "no operands"),
        ("rx q[0], 1/0", "3:11", "division by zero"),
        ("rx q[0], 9**9**9", "3:11", "too large"),
        ("rx q[0], sqrt(-1)", "3:10", "cannot compute this"),
        ("rx q[0], (-8)**.5", "3:14", "not a real number"),
        ("rx q[0], 99999999999999999999", "3:10", "too large"),
        ("rx q[0], q[1] + 1", "3:15", "'+' needs numbers"),
        ("rx q[0], angle", "3:10", "unknown name 'angle'"),
        ("rx q[0], " + "(" * 5000, "3:60", "nested"),
        ("x q[0] // flip it", "3:11", "unknown name 'flip'"),
        ("x q[0] y q[1]", "3:8", "expected the end of the line, not 'y'"),
        ("x q[0]\x00", "3:7", "is not allowed in cQASM 1.0"),
        ("x q[ψ]", "3:5", "is not allowed in cQASM 1.0"),
        (".part(0)", "3:7", "the number of iterations is 0"),
        (".part(2.5)", "3:7", "must be an integer"),
        (".part(1000000000)\nx q[0]", "3:1", "longer than 4000000 characters"),
        ("error_model depolarizing_channel, 0.01", "3:1", "noise"),
        ("c-x b[0], q[1]", "3:1", "measured bits"),
        ("cond (b[0]) x q[1]", "3:1", "measured bits"),
        ("not b[0]", "3:1", "measured bits"),
        ("measure_parity q[0], x, q[1], y", "3:1", "parity"),
        ("u q[0], [1, 0; 0, 1]", "3:1", "matrix"),
        ('load_state "state.txt"', "3:1", "loading a state from a file"),
        ("var i: int", "3:1", "control flow"),
        ("foreach (i = 0..3) {\n}", "3:1", "control flow"),
    ],
)
def test_what_is_not_covered_is_refused_with_its_place(line: str, where: str, what: str) -> None:
    message = refused(f"{HEAD}{line}\nmeasure_all\n").message
    assert message.startswith(f"old.cq:{where}: ")
    assert what in message


@pytest.mark.parametrize(
    ("text", "where", "what"),
    [
        ("version 1.0\n\nx q[0]", "3:1", "expected 'qubits'"),
        ("version 1.0\nqubits 65\nmeasure_all", "2:1", "65 qubits"),
        ("version 1.0\nqubits 0\nmeasure_all", "2:8", "it must be from 1 to"),
        ("version 1.0\nqubits 2.5\nmeasure_all", "2:8", "must be an integer"),
        ("version 1.0\nqubits 99999999999999999999999\n", "2:8", "too large"),
    ],
)
def test_wrong_first_lines_are_refused_with_their_place(text: str, where: str, what: str) -> None:
    message = refused(text).message
    assert message.startswith(f"old.cq:{where}: ")
    assert what in message


def test_what_belongs_elsewhere_gets_a_hint() -> None:
    assert "#" in refused(HEAD + "x q[0] // flip it\nmeasure_all").hint
    assert "map" in refused(HEAD + "x input\nmeasure_all").hint
    assert "toffoli" in refused(HEAD + "ccx q[0], q[1], q[2]\nmeasure_all").hint


def test_a_program_that_measures_nothing_is_refused() -> None:
    assert "measure_all" in refused(HEAD + "x q[0]").hint
    assert "foo" in refused(HEAD + "foo q[0]").message


def test_limits_that_show_only_in_the_translation_name_the_circuit() -> None:
    text = "version 1.0\nqubits 40\nmeasure_all\nh q\nprep_z q\n"
    assert "40 values are measured from qubits" in refused(text).message


def test_messages_about_the_translation_name_the_original_line() -> None:
    translation = translate(HEAD + "\n.twice(2)\n  x q[0]\n h q[1]; measure_all", "old.cq")
    assert translation.program.splitlines()[3:5] == ["X q[0]", "H q[1]"]
    assert translation.relocated("old.cq:4:1: oh. Also: old.cq:8:9: no.", "old.cq") == (
        "old.cq:5:3: oh. Also: old.cq:6:2: no."
    )


def test_a_long_program_is_read() -> None:
    facts = check_circuit(HEAD + "x q[0:2]; " * 5_000 + "measure_all")
    assert facts.qubits == 3


@settings(max_examples=300)
@given(st.text(alphabet="version10.qubits[]{}|;\n #()+-*/,\\ xhcrmeap_l:\"'", max_size=200))
def test_rubbish_is_refused_and_nothing_else(text: str) -> None:
    try:
        translate(f"{HEAD}{text}", "old.cq")
    except CircuitError as error:
        assert error.message.startswith("old.cq:")
