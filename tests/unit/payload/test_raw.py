"""Payloads that people wrote themselves."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from testbed.layout import CHECKOUT

from qslurm.errors import InvalidInputError
from qslurm.payload.comment import LIMIT, Comment
from qslurm.payload.raw import C2_DECIDES, decided_by_c2, parse_payload, with_key

PAPER = json.loads((CHECKOUT / "tests/recorded/v0.0.39/submit_paper.json").read_text())["request"]["body"]


def test_a_payload_is_read_as_it_stands():
    assert parse_payload(json.dumps(PAPER)) == PAPER
    assert parse_payload("\ufeff" + json.dumps(PAPER)) == PAPER


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{\n"job": ', "p.json:2:8: invalid JSON"),
        ("", "p.json:1:1"),
        ("[]", "is not a Slurm job payload"),
        ('{"job": {"name": "a", "name": "b"}}', "duplicate field 'name'"),
        ("[" * 100_000, "nested too deeply"),
    ],
)
def test_what_is_no_payload_says_where(text, said):
    with pytest.raises(InvalidInputError) as caught:
        parse_payload(text, "p.json")
    assert said in caught.value.message


AS_PRINTED = """"job": {
  "partition": "p_qx",
  "environment": ["PATH=/bin"]
},
"script": "#!/bin/bash
srun hostname"
}
"""
"""As the paper has it: without its first brace, and with the script's line breaks as they are."""


def test_the_papers_payload_as_it_is_printed_is_told_both_that_are_wrong_with_it():
    with pytest.raises(InvalidInputError) as caught:
        parse_payload(AS_PRINTED, "p.json")
    assert "p.json:1:1: invalid JSON: the opening { is missing" in caught.value.message
    assert "Line 5 contains a line break" in caught.value.hint
    with pytest.raises(InvalidInputError) as caught:
        parse_payload("{" + AS_PRINTED, "p.json")
    assert "p.json:5:" in caught.value.message
    assert "a string contains a line break" in caught.value.message
    assert r"\n" in caught.value.hint
    assert (
        parse_payload("{" + AS_PRINTED.replace("bash\n", r"bash\n"))["script"].splitlines()[1]
        == "srun hostname"
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('\n\n  "job": {}}', "p.json:3:3: invalid JSON: the opening { is missing"),
        ('{"a": "b\tc"}', "a string contains a tab"),
        ('{"a": "b\x01c"}', "a string contains a control character"),
        ('{"a": 1} {"b": 2}', "Extra data"),
    ],
)
def test_what_json_readers_call_otherwise_is_said_plainly(text, said):
    with pytest.raises(InvalidInputError) as caught:
        parse_payload(text, "p.json")
    assert said in caught.value.message


def test_a_key_is_added_so_that_the_job_can_be_found_again():
    keyed = with_key(PAPER, Comment(key="abc", origin="shell:::ann"))
    assert keyed["job"]["comment"] == "qslurm key=abc origin=shell:::ann"
    assert "comment" not in PAPER["job"]


def test_a_key_that_is_there_stays():
    payload = {"job": {"comment": "mine key=own"}}
    assert with_key(payload, Comment(key="abc")) == payload


@pytest.mark.parametrize("said", ["", " ", "qslurm", "qslurm kind=circuit -- key to my heart"])
def test_a_comment_that_is_empty_or_ours_gets_the_key(said):
    keyed = with_key({"job": {"comment": said}}, Comment(key="abc"))["job"]["comment"]
    assert Comment.parse(keyed).key == "abc"
    assert Comment.parse(keyed).kind == Comment.parse(said).kind
    assert Comment.parse(keyed).note == Comment.parse(said).note


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=LIMIT + 10))
def test_a_comment_of_its_users_own_is_sent_as_it_is(text):
    payload = {"job": {"comment": text}}
    keyed = with_key(payload, Comment(key="a" * 32, origin="slurm:c:1:u"))
    assert keyed == payload or not text.strip() or text.split()[0] == "qslurm"
    ours = with_key({"job": {"comment": f"qslurm {text}"}}, Comment(key="a"))["job"]["comment"]
    assert ours.strip().endswith(text.strip())


@pytest.mark.parametrize("payload", [{}, {"job": 3}, {"job": {"comment": 5}}])
def test_what_is_no_job_is_left_to_validation(payload):
    assert with_key(payload, Comment(key="abc")) == payload


@pytest.mark.parametrize("name", C2_DECIDES)
@pytest.mark.parametrize(
    ("value", "said"), [("/scratch/ann", True), ("x.out", True), ("/tmp", False), ("", False)]
)
def test_a_folder_that_the_job_does_not_get_is_named(name, value, said):
    assert decided_by_c2({"job": {name: value}}) == ([name] if said else [])


def test_what_is_no_job_asks_for_no_folder():
    assert decided_by_c2({"job": "x"}) == decided_by_c2({}) == decided_by_c2(PAPER) == []
