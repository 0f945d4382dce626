"""`--dependency`, read as Slurm reads it."""

from __future__ import annotations

import pytest

from qslurm.errors import InvalidInputError
from qslurm.payload.dependency import parse_dependency


@pytest.mark.parametrize(
    "text",
    ["afterok:12", "afterok:12:13,afterany:14_3", "afterany:1?afternotok:2", "after:7+10", "singleton"],
)
def test_a_dependency_goes_to_slurm_as_it_is(text):
    assert parse_dependency(f" {text} ") == text


def test_a_dependencys_type_may_be_written_as_slurm_lets_it_be():
    assert parse_dependency("AfterOK:12_*") == "afterok:12_*"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("12", "Invalid"),
        ("aftrok:12", "Invalid"),
        ("afterok", "Invalid"),
        ("singleton:1", "Invalid"),
        ("afterok:", "not a job id of C2"),
        ("afterok:abc", "not a job id of C2"),
        ("afterok:0", "not a job id of C2"),
        ("afterok:1+5", "not a job id of C2"),
        ("afterok:1,afterany:2?afterok:3", "it mixes"),
        ("", "Invalid"),
    ],
)
def test_what_is_no_dependency_is_refused(text, words):
    with pytest.raises(InvalidInputError, match=words):
        parse_dependency(text)
