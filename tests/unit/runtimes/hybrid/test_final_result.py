"""Final results as JSON can carry them."""

from __future__ import annotations

import math
import sys
from typing import Any

import numpy as np
import pytest

from qslurm.errors import JobFailedError
from qslurm.runtimes.hybrid.hybrid_file import run_hybrid
from tests.unit.runtimes.hybrid.hybrid_runs import Local, run


def remarks_on(result: str) -> list[str]:
    found: list[str] = []
    source = f"import math\nnan, inf = math.nan, math.inf\ndef execute(qi): pass\ndef finalize(m): return {result}\n"
    run_hybrid(source, "algorithm.py", Local(), remark=found.append)
    return found


@pytest.mark.parametrize(
    ("result", "places"),
    [
        ("{'energy': nan}", "result['energy']"),
        ("{'trace': [1.0, inf, {'last': -inf}]}", "result['trace'][1], result['trace'][2]['last']"),
        ("{'z': complex(nan, 1.0)}", "result['z']"),
        ("{'many': [nan] * 8}", ", ".join(f"result['many'][{i}]" for i in range(5)) + " and 3 more"),
    ],
)
def test_null_in_place_of_what_json_has_no_word_for_is_remarked_on(result: str, places: str) -> None:
    assert remarks_on(result) == [f"JSON has no NaN and no infinity; replaced by null in {places}."]


def test_a_result_that_json_can_carry_needs_no_remark() -> None:
    assert remarks_on("{'energy': None, 'big': 2**80, 'text': 'nan'}") == []


def finalized(value: object) -> dict[str, Any]:
    sys.modules["value_of_this_test"] = type(sys)("value_of_this_test")
    sys.modules["value_of_this_test"].value = value  # type: ignore[attr-defined]
    try:
        return run("import value_of_this_test as v\ndef execute(qi): pass\ndef finalize(m): return v.value")
    finally:
        del sys.modules["value_of_this_test"]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (np.float64(1.5), 1.5),
        (np.float32(0.5), 0.5),
        (np.int64(7), 7),
        (np.bool_(True), True),
        (np.array([[1.0, 2.0], [3.0, math.nan]]), [[1.0, 2.0], [3.0, None]]),
        (np.array(3), 3),
        (math.inf, None),
        (1 + 2j, [1.0, 2.0]),
        (np.complex128(1j), [0.0, 1.0]),
        ((1, {2}), [1, [2]]),
        (2**70, str(2**70)),
        ("\udc80", "\\udc80"),
        (None, None),
    ],
)
def test_values_become_what_json_knows(value: object, expected: object) -> None:
    assert finalized({"value": value}) == {"value": expected}


def test_keys_become_text() -> None:
    assert finalized({1: "a", np.int64(2): "b", (3, 4): "c"}) == {"1": "a", "2": "b", "(3, 4)": "c"}


@pytest.mark.parametrize("value", [None, [1], 3.0, "done"])
def test_a_result_that_is_no_dict_is_refused(value: object) -> None:
    with pytest.raises(JobFailedError, match="instead of a dict"):
        finalized(value)


def test_a_value_that_json_can_not_carry_is_named() -> None:
    with pytest.raises(JobFailedError, match=r"type object in result\['best'\]\[1\]"):
        finalized({"best": [1, object()]})


def test_a_result_that_contains_itself_is_refused() -> None:
    endless: dict[str, object] = {}
    endless["again"] = endless
    with pytest.raises(JobFailedError, match="contains itself"):
        finalized(endless)
