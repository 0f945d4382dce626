"""`--array`, read as sbatch reads it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qslurm.errors import InvalidInputError
from qslurm.payload.array import Array, parse_array


@pytest.mark.parametrize(
    ("text", "indices", "at_once", "sent"),
    [
        ("0-3", (0, 1, 2, 3), None, "0-3"),
        ("5", (5,), None, "5"),
        ("1,3,5-6", (1, 3, 5, 6), None, "1,3,5-6"),
        ("0-8:4", (0, 4, 8), None, "0,4,8"),
        ("3,1,2%2", (1, 2, 3), 2, "1-3%2"),
    ],
)
def test_an_array_is_read_as_sbatch_reads_it(text, indices, at_once, sent):
    assert parse_array(text) == Array(indices, at_once)
    assert parse_array(text).format() == sent


@pytest.mark.parametrize(
    "text",
    [
        "",
        "-1",
        "3-1",
        "a",
        "0-3:0",
        "0-3%0",
        "0-3%",
        "1,,2",
        "0-4000001",
        "0-1000000",
        "1e3",
        "0x3",
        "9" * 40,
    ],
)
def test_what_is_no_array_is_refused(text):
    with pytest.raises(InvalidInputError, match="array"):
        parse_array(text)


@given(st.sets(st.integers(0, 200), min_size=1), st.none() | st.integers(1, 9))
def test_what_is_sent_names_the_same_tasks(indices, at_once):
    array = Array(tuple(sorted(indices)), at_once)
    assert parse_array(array.format()) == array
