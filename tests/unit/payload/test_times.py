"""Time limits, begin times and past times, read as sbatch and sacct read them."""

from __future__ import annotations

import time
from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qslurm.errors import InvalidInputError
from qslurm.payload.times import parse_begin, parse_past, parse_time_limit

NOON = datetime(2026, 11, 22, 12, 0)


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


@pytest.mark.parametrize(
    ("text", "minutes"),
    [
        ("5", 5),
        ("5:00", 5),
        ("5:01", 6),
        ("0:30", 1),
        ("1:00:00", 60),
        ("1-0", 1440),
        ("1-2:3", 1563),
        ("2-01:02:03", 2943),
    ],
)
def test_time_limits_are_read_as_sbatch_reads_them(text, minutes):
    assert parse_time_limit(text) == minutes


@pytest.mark.parametrize("text", ["", "soon", "-5", "1:2:3:4", "1-", "5 minutes", "1.5", "4294967296"])
def test_nonsense_is_refused_with_the_forms_that_work(text):
    with pytest.raises(InvalidInputError) as refused:
        parse_time_limit(text)
    assert "sbatch" in refused.value.hint


@pytest.mark.parametrize(
    "text", ["UNLIMITED", "unlimited", "INFINITE", " infinite ", "-1", "0", "00:00:00", "0-0"]
)
def test_what_means_no_limit_to_sbatch_is_told_what_is_wanted_instead(text):
    with pytest.raises(InvalidInputError) as refused:
        parse_time_limit(text)
    assert text.strip() in refused.value.message
    assert "means no limit" in refused.value.message
    assert "--time 1:00:00" in refused.value.hint


@given(st.integers(1, 10**6))
def test_any_number_of_minutes_means_itself(minutes):
    assert parse_time_limit(str(minutes)) == minutes
