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
        ("12", "can't be read"),
        ("aftrok:12", "can't be read"),
        ("afterok", "can't be read"),
        ("singleton:1", "can't be read"),
        ("afterok:", "no job of C2"),
        ("afterok:abc", "no job of C2"),
        ("afterok:0", "no job of C2"),
        ("afterok:1+5", "no job of C2"),
        ("afterok:1,afterany:2?afterok:3", "for all and for any"),
        ("", "can't be read"),
    ],
)
def test_what_is_no_dependency_is_refused(text, words):
    with pytest.raises(InvalidInputError, match=words):
        parse_dependency(text)
