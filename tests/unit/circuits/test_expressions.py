from __future__ import annotations

import math

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qslurm.circuits.expressions import exact


def rounded_by_libqasm(text: str) -> float:
    from libqasm import V3xAnalyzer

    tree = msgspec.json.decode(
        V3xAnalyzer("3.0").analyze_string_to_json(f"version 3.0; qubit q; Rx({text}) q")
    )
    (statement,) = tree["Program"]["block"]["Block"]["statements"]
    (value,) = statement["GateInstruction"]["gate"]["Gate"]["parameters"][0].values()
    return float(value["value"])


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3*pi/4", 3 * math.pi / 4),
        ("1/2*pi", 0),  # integers are divided as in C
        ("-7/2", -3),
        ("7.0/2", 3.5),
        ("-2**2", 4),  # the sign binds tighter
        ("2**0.5*tau", math.sqrt(2) * math.tau),
        ("cos(0.3)+eu", math.cos(0.3) + math.e),
        ("log(2.5)", math.log(2.5)),
        ("123456789", 123456789),
        ("1.0e-8/3", 1e-8 / 3),
    ],
)
def test_an_expression_has_the_value_that_libqasm_rounds(text: str, value: float) -> None:
    rounded = rounded_by_libqasm(text)
    assert rounded == pytest.approx(value, rel=1e-5)
    assert exact(text, rounded) == pytest.approx(value, rel=1e-15)


@given(st.floats(-1e6, 1e6).filter(lambda number: number == 0 or abs(number) > 1e-6))
def test_a_number_is_read_to_its_last_digit(number: float) -> None:
    assert exact(repr(number), float(f"{number:.6g}")) == number


@pytest.mark.parametrize(
    "text", ["pi > 3 ? 1 : 2", "unknown(2)", "__import__('os')", "(", "", "9**9**9**9", "7%3", "2*pi"]
)
def test_what_it_cannot_evaluate_or_evaluates_otherwise_keeps_libqasms_value(text: str) -> None:
    assert exact(text, 1.25) == 1.25
