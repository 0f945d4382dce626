"""Options of sbatch's, read as sbatch reads them."""

from __future__ import annotations

import time
from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qslurm.errors import InvalidInputError
from qslurm.payload.array import Array, parse_array
from qslurm.payload.begin import parse_begin, parse_past
from qslurm.payload.comment import Comment
from qslurm.payload.dependency import parse_dependency
from qslurm.payload.export import parse_export

NOON = datetime(2026, 11, 22, 12, 0)


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


@pytest.mark.parametrize(
    ("text", "begins"),
    [
        ("now", "2026-11-22 12:00:00"),
        ("now+90", "2026-11-22 12:01:30"),
        ("now+1hour", "2026-11-22 13:00:00"),
        ("now + 1 hour", "2026-11-22 13:00:00"),
        ("now+2days", "2026-11-24 12:00:00"),
        ("16:00", "2026-11-22 16:00:00"),
        ("11:30:15", "2026-11-23 11:30:15"),
        ("4:05pm", "2026-11-22 16:05:00"),
        ("12:00 AM", "2026-11-23 00:00:00"),
        ("teatime", "2026-11-22 16:00:00"),
        ("noon", "2026-11-23 12:00:00"),
        ("tomorrow", "2026-11-23 00:00:00"),
        ("tomorrow 16:00", "2026-11-23 16:00:00"),
        ("2026-12-24", "2026-12-24 00:00:00"),
        ("2026-12-24T18:30", "2026-12-24 18:30:00"),
        ("12/24", "2026-12-24 00:00:00"),
        ("12/24/27-10:00", "2027-12-24 10:00:00"),
        ("122427", "2027-12-24 00:00:00"),
    ],
)
def test_a_begin_time_is_read_as_sbatch_reads_it(text, begins):
    assert datetime.fromtimestamp(parse_begin(text, NOON)) == datetime.fromisoformat(begins)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "soon",
        "25:00",
        "12:61",
        "13:00pm",
        "now+",
        "now+1eon",
        "now-1hour",
        "2026-02-31",
        "99999-01-01",
        "2026-1",
    ],
)
def test_what_is_no_time_is_refused(text):
    with pytest.raises(InvalidInputError, match="begin time"):
        parse_begin(text, NOON)


@pytest.mark.parametrize(
    ("text", "was"),
    [
        ("now-2days", "2026-11-20 12:00:00"),
        ("yesterday", "2026-11-21 00:00:00"),
        ("today", "2026-11-22 00:00:00"),
        ("13:00", "2026-11-22 13:00:00"),
        ("2026-11-01", "2026-11-01 00:00:00"),
    ],
)
def test_a_time_that_is_over_is_read_as_sacct_reads_it(text, was):
    assert datetime.fromtimestamp(parse_past(text, NOON)) == datetime.fromisoformat(was)


@pytest.mark.parametrize("text", ["", "now+1hour", "last week", "now-", "tomorrow morning"])
def test_what_is_no_time_that_is_over_is_refused(text):
    with pytest.raises(InvalidInputError, match="time"):
        parse_past(text, NOON)


@pytest.fixture
def in_amsterdam(monkeypatch):
    monkeypatch.setenv("TZ", "Europe/Amsterdam")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def utc(text):
    return int(datetime.fromisoformat(f"{text}+00:00").timestamp())


@pytest.mark.parametrize(
    ("now", "read", "text", "moment"),
    [
        # 29 March 2026, 01:00 UTC: clocks go from 02:00 to 03:00
        ("2026-03-29 00:30", parse_begin, "now+1hour", "2026-03-29 01:30"),
        ("2026-03-29 00:30", parse_begin, "now+1day", "2026-03-30 00:30"),
        ("2026-03-29 00:30", parse_begin, "03:15", "2026-03-29 01:15"),
        ("2026-03-29 01:30", parse_past, "now-1hours", "2026-03-29 00:30"),
        ("2026-03-29 12:00", parse_past, "now-1days", "2026-03-28 12:00"),
        ("2026-03-29 12:00", parse_begin, "12:00", "2026-03-30 10:00"),
        # 25 October 2026, 01:00 UTC: clocks go from 03:00 to 02:00
        ("2026-10-25 00:30", parse_begin, "now", "2026-10-25 00:30"),
        ("2026-10-25 00:30", parse_begin, "now+1hour", "2026-10-25 01:30"),
        ("2026-10-25 01:30", parse_begin, "now", "2026-10-25 01:30"),
        ("2026-10-25 01:30", parse_begin, "now+30minutes", "2026-10-25 02:00"),
        ("2026-10-25 01:30", parse_past, "now-1hours", "2026-10-25 00:30"),
        ("2026-10-25 00:30", parse_begin, "02:45", "2026-10-25 00:45"),
        ("2026-10-25 01:30", parse_begin, "02:45", "2026-10-25 01:45"),
        ("2026-10-25 00:50", parse_begin, "02:45", "2026-10-25 01:45"),
        ("2026-10-24 12:00", parse_begin, "tomorrow 12:00", "2026-10-25 11:00"),
    ],
)
@pytest.mark.usefixtures("in_amsterdam")
def test_moments_are_right_on_the_days_on_which_clocks_jump(now, read, text, moment):
    assert read(text, datetime.fromtimestamp(utc(now))) == utc(moment)


@given(st.text(max_size=30))
def test_any_text_is_a_time_or_bad_input(text):
    try:
        assert isinstance(parse_begin(text, NOON), int)
    except InvalidInputError as error:
        assert error.hint


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
        ("ALL", "all of this machine's"),
        ("all", "all of this machine's"),
        ("ALL,MODEL", "all of this machine's"),
        ("NOT_SET", "is not set here"),
        ("1A=2", "name of a variable"),
        ("A-B=2", "name of a variable"),
        ("A='x", "can't be read"),
    ],
)
def test_what_can_not_be_exported_is_refused(text, words):
    with pytest.raises(InvalidInputError, match=words):
        parse_export(text, {"MODEL": "h2"})


def test_the_users_words_stand_beside_ours_and_never_for_them():
    said = Comment(key="a" * 32, kind="circuit", note="for key=fake backend=mine -- see notes")
    assert Comment.parse(said.format()) == said
    for text in ("my own words key=k1 key=k2", "my own -- key=k1"):
        assert Comment.parse(text).key == "k1"


@pytest.mark.parametrize("note", ["two\nlines", "\x1b[31mred", "x" * 1024, "ü" * 600])
def test_a_comment_that_slurm_would_cut_or_a_terminal_obey_is_refused(note):
    with pytest.raises(InvalidInputError, match="comment"):
        Comment(key="a" * 32, note=note).format()
