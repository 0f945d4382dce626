"""`--export`: which variables a job gets."""

from __future__ import annotations

import pytest

from qslurm.errors import InvalidInputError
from qslurm.payload.export import parse_export


def test_a_job_takes_those_variables_along_that_are_named():
    here = {"MODEL": "h2", "SECRET": "x"}
    assert parse_export("MODEL,STEPS=3", here) == {"MODEL": "h2", "STEPS": "3"}
    assert parse_export("NAME='a,b',EMPTY=", here) == {"NAME": "a,b", "EMPTY": ""}
    for word in ("NONE", "none", "NIL", "nil"):  # sbatch takes them in any case
        assert parse_export(word, here) == {}
    assert parse_export("all", {"all": "x"}) == {"all": "x"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("ALL", "--export=ALL"),
        ("all", "--export=ALL"),
        ("ALL,MODEL", "--export=ALL"),
        ("NOT_SET", "is not set"),
        ("1A=2", "Invalid variable name"),
        ("A-B=2", "Invalid variable name"),
        ("A='x", "Invalid"),
    ],
)
def test_what_can_not_be_exported_is_refused(text, words):
    with pytest.raises(InvalidInputError, match=words):
        parse_export(text, {"MODEL": "h2"})
