"""How deep something is nested is the same for what is there and for its text, however deep that is."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qslurm.protocol.nesting import NESTING_LIMIT, is_too_deep, text_is_too_deep


def nested(levels: int, value: Any = 1) -> Any:
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("text", "deep"),
    [
        ("[" * NESTING_LIMIT + "]" * NESTING_LIMIT, False),
        ("[" * (NESTING_LIMIT + 1), True),
        ('{"a":' * 1000, True),
        ("[" * 1_000_000, True),
        ('"' + "[" * 1000 + '"', False),
        (r'"\\" ' + "[" * 1000, True),
        (r'"\"' + "[" * 1000 + '"', False),
        ("[]" * 1000, False),
        ("]" * 1000 + "[" * 1000, False),  # nothing that can be read
        ("", False),
    ],
)
def test_text(text: str, deep: bool) -> None:
    assert text_is_too_deep(text) == deep


@given(
    st.recursive(st.text() | st.integers(), lambda one: st.lists(one) | st.dictionaries(st.text(), one)),
    st.integers(NESTING_LIMIT - 4, NESTING_LIMIT + 2),
)
def test_a_value_and_its_text_are_judged_alike(value: Any, levels: int) -> None:
    value = nested(levels, value)
    assert is_too_deep(value) == text_is_too_deep(json.dumps(value))
