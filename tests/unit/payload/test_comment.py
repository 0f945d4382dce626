"""What a job's comment says, and that C2's submit plugin and everybody else read the same of it."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from qslurm.errors import InvalidInputError
from qslurm.payload.comment import LIMIT, VARIABLE, Comment, in_environment, mark_words, marks_of, note_in
from tests.unit.c2.submit_plugin import Plugin

DUPLICATE = 2011
SAID = "qslurm key=k1 kind=circuit backend=qx origin=slurm:c1:7:ann"


def key_in_lua(text: str) -> str:
    """The key that the plugin finds in a comment: it copies what it has read."""
    _, job = Plugin({"comment": "another's"}).submitted(comment=text)
    found = re.match(r"qslurm key=([^ ]+)", str(job.get("admin_comment")))
    return found[1] if found else ""


KEYS = {
    "": "",
    "key=": "",
    "key=a": "a",
    "qslurm key=a1": "a1",
    "qslurm  key=a kind=script": "a",
    "qslurm kind=script key=a": "a",
    "qslurm key=a key=b": "a",
    "qslurm key= key=b": "b",
    "qslurm key=a!b key=c": "c",
    "qslurm key=a=b key=c": "c",
    "qslurm key=ä key=c": "c",
    "qslurm key=AZaz09_.:/@+,- kind=x": "AZaz09_.:/@+,-",
    "qslurm\tkey=a\tkind=x": "a",
    "qslurm key=a\x0bkind=x": "a",
    "qslurm key=a\nkey=b": "a",
    "qslurm\xa0key=a": "",
    "qslurm key=a\xa0kind=x key=b": "b",
    "qslurm key=a\x1ckind=x key=b": "b",
    "qslurm key=a\x85 key=b": "b",
    "qslurm kind=x -- key=b": "",
    "qslurm kind=x --key=b": "",
    "qslurm kind=x -- key=b -- key=c": "",
    "qslurm kind=x\t--\tkey=b": "b",
    "qslurm -- key=b": "",
    "qslurm": "",
    "my own -- key=b": "b",
    "qslurmkey=a key=b": "b",
    " qslurm kind=x -- key=b": "b",
    "monkey=a key=b": "b",
    "Key=a KEY=b": "",
}


@pytest.mark.parametrize(("text", "key"), KEYS.items())
def test_a_key_is_read_by_the_plugin_as_by_everybody_else(text: str, key: str) -> None:
    assert (Comment.parse(text).key, key_in_lua(text)) == (key, key)


PIECES = [
    "qslurm",
    "key=",
    "key=a",
    "kind=b",
    " ",
    " -- ",
    "--",
    "\t",
    "\n",
    "\x0b",
    "\xa0",
    "\x1c",
    "ä",
    "=",
    "!",
    "x",
]


@given(st.lists(st.sampled_from(PIECES) | st.characters(codec="utf-8", exclude_characters="\0"), max_size=12))
@example(["qslurm", " ", "key=a", " -- ", "key=", "b"])
def test_no_text_has_another_key_for_the_plugin(pieces: list[str]) -> None:
    text = "".join(pieces)
    assert Comment.parse(text).key == key_in_lua(text)


def test_what_a_job_says_is_copied_without_its_users_words() -> None:
    _, job = Plugin({"comment": "another's"}).submitted(comment=f"{SAID} -- mine, key=k9")
    assert job["admin_comment"] == SAID
    assert marks_of("moved by ops", job["admin_comment"]) == Comment(
        key="k1", kind="circuit", backend="qx", origin="slurm:c1:7:ann", note="moved by ops"
    )


def test_the_copy_of_a_long_comment_has_the_key_at_least() -> None:
    _, job = Plugin({"comment": "another's"}).submitted(comment=f"key=k1 a={'x' * (LIMIT - 9)}")
    assert job["admin_comment"] == "qslurm key=k1"


@pytest.mark.parametrize(
    "record",
    [
        {"comment": SAID},
        {"comment": f"{SAID} -- mine"},
        {"comment": "moved by ops", "admin_comment": SAID},
        {"comment": "", "admin_comment": f"{SAID} -- watched"},
    ],
)
def test_a_key_is_refused_wherever_it_stands_on_a_job(record: dict[str, str]) -> None:
    answer, _ = Plugin(record).submitted(comment="qslurm key=k1 kind=script")
    assert answer == DUPLICATE
    assert Plugin(record).submitted(comment="qslurm key=k2")[0] == 0
    assert Plugin({**record, "user_id": 1001}).submitted(comment="qslurm key=k1")[0] == 0


def test_a_key_that_another_plugin_has_written_over_comes_by_the_environment() -> None:
    payload = {"job": {"comment": f"{SAID} -- mine", "environment": ["PATH=/bin"]}, "script": "#!/bin/sh\n"}
    environment = in_environment(payload)["job"]["environment"]
    assert environment == ["PATH=/bin", f"{VARIABLE}={SAID}"]
    assert in_environment({"job": {**payload["job"], "environment": {"A": "b"}}})["job"]["environment"] == {
        "A": "b",
        VARIABLE: SAID,
    }
    variables = dict(one.split("=", 1) for one in environment)
    answer, job = Plugin({"comment": "another's"}).submitted(comment="project 7", environment=variables)
    assert (answer, job["comment"], job["admin_comment"]) == (0, "project 7", SAID)
    assert Plugin({"comment": SAID}).submitted(comment="project 7", environment=variables)[0] == DUPLICATE


def test_a_payload_whose_comment_has_no_key_is_sent_as_it_is() -> None:
    payload = {"job": {"comment": "mine", "environment": ["PATH=/bin"]}, "script": "#!/bin/sh\n"}
    assert in_environment(payload) == payload
    assert in_environment({"job": {"comment": SAID}}) == {"job": {"comment": SAID}}


WRITTEN = [
    "moved by ops",
    "",
    " ",
    "qslurm key=k9 kind=script",
    "a -- b",
    "x" * 1023,
    "two\nlines",
    SAID,
    f"{SAID} -- b",
]


@pytest.mark.parametrize("text", WRITTEN)
@pytest.mark.parametrize("field", ["comment", "admin_comment"])
@pytest.mark.parametrize("copy", [SAID, "", "watched"])
def test_whatever_is_written_on_a_job_it_keeps_its_key(copy: str, field: str, text: str) -> None:
    plugin = Plugin({"comment": "another's"})
    changed = plugin.modified({"comment": f"{SAID} -- mine", "admin_comment": copy}, **{field: text})
    marks = marks_of(changed["comment"], changed["admin_comment"])
    assert (marks.key, marks.origin) == ("k1", "slurm:c1:7:ann")
    assert Comment.parse(changed[field]).key == "k1"
    if text not in ("", SAID, f"{SAID} -- b"):
        assert note_in(changed[field]) == text[: len(note_in(changed[field]))]
    assert len(changed[field]) < LIMIT
    assert plugin.modified(changed, **{field: changed[field]}) == changed


def test_what_is_written_on_a_job_without_a_key_is_left_alone() -> None:
    plugin = Plugin({"comment": "another's"})
    assert plugin.modified({"comment": "mine"}, comment="theirs", admin_comment="ours") == {
        "comment": "theirs",
        "admin_comment": "ours",
    }


def test_what_stands_behind_the_copy_is_what_c2_has_said() -> None:
    assert note_in(f"{SAID} -- qslurm: no such backend") == "qslurm: no such backend"
    assert note_in("qslurm: no such backend") == "qslurm: no such backend"
    assert note_in(SAID) == ""
    assert (mark_words(f"{SAID} -- why"), mark_words("watched")) == (SAID, "")


def test_the_users_words_stand_beside_ours_and_never_for_them():
    said = Comment(key="a" * 32, kind="circuit", note="for key=fake backend=mine -- see notes")
    assert Comment.parse(said.format()) == said
    for text in ("my own words key=k1 key=k2", "my own -- key=k1"):
        assert Comment.parse(text).key == "k1"


@pytest.mark.parametrize("note", ["two\nlines", "\x1b[31mred", "x" * 1024, "ü" * 600])
def test_a_comment_that_slurm_would_cut_or_a_terminal_obey_is_refused(note):
    with pytest.raises(InvalidInputError, match="comment"):
        Comment(key="a" * 32, note=note).format()
