"""Lines of the log: whatever stands in them, each is one event with its fields."""

from __future__ import annotations

import io
import logging
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qslurm.system.event_log import EventFormatter, EventLog, RateLimit
from qslurm.system.logfmt import LONGEST, line, say, value
from tests.unit.logfmt import read, read_all


@given(
    st.text(),
    st.dictionaries(st.sampled_from("abcdef"), st.text(max_size=50) | st.integers() | st.booleans()),
)
def test_what_is_written_is_read_again(event: str, fields: dict[str, str | int | bool]) -> None:
    text = line("gate", "info", event, fields)
    assert text.count("\n") == 1
    assert all(character.isprintable() for character in text[:-1])
    found = read(text[:-1])
    kept = {name: one for name, one in fields.items() if one != ""}
    expected = {name: str(one).lower() if isinstance(one, bool) else str(one) for name, one in kept.items()}
    assert {name: found[name] for name in expected} == expected
    assert found.get("event", "") == event
    assert found["part"] == "gate"


@pytest.mark.parametrize(
    ("given_", "written"),
    [
        ("p_qx", "p_qx"),
        ("", '""'),
        ("a b", '"a b"'),
        ("a=b", '"a=b"'),
        ('say "hi"', '"say \\"hi\\""'),
        ("two\nlines", '"two\\nlines"'),
        ("\x1b[2J\u202e", '"\\u001b[2J\\u202e"'),
        ("\udcff", '"\\udcff"'),
        ("Grüße", '"Grüße"'),
        (True, "true"),
        (0.1 + 0.2, "0.3"),
    ],
)
def test_values_are_plain_words_or_in_quotes(given_: str | bool | float, written: str) -> None:
    assert value(given_) == written
    value(given_).encode()


def test_a_long_value_is_cut_and_says_so() -> None:
    text = value("x" * 1_000_000)
    assert len(text) < LONGEST + 50
    assert "(1000000 characters)" in text


def test_what_is_not_known_is_left_out() -> None:
    assert line("gate", "info", "e", {"center": None, "why": "", "n": 0}, now=0.0) == (
        "time=1970-01-01T00:00:00.000Z level=info part=gate event=e n=0\n"
    )


def test_services_that_do_without_logging_write_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    say("runtimes", "warm runtime assigned", job=5, ms=1.25)
    (found,) = read_all(capsys.readouterr().err)
    assert (found["job"], found["ms"], found["level"]) == ("5", "1.25", "info")


def test_other_libraries_lines_and_tracebacks_are_lines_as_well() -> None:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(EventFormatter("jobmanager"))
    other, own = logging.getLogger("somebody.else"), logging.getLogger("qslurm.test")
    for logger in (other, own):
        logger.addHandler(handler)
        logger.setLevel(logging.DEBUG)
        logger.propagate = False
    try:
        int("two\nlines")
    except ValueError as error:
        other.exception("it %s", "broke")
        EventLog("qslurm.test").crashed("request failed", error, job=3)
    EventLog("qslurm.test").debug("100% done", job=4)
    for logger in (other, own):
        logger.removeHandler(handler)
    first, second, third = read_all(stream.getvalue())
    assert (first["event"], first["logger"], first["level"]) == ("it broke", "somebody.else", "error")
    assert "ValueError: invalid literal" in first["trace"]
    assert (second["event"], second["job"]) == ("request failed", "3")
    assert "Traceback" in second["trace"]
    assert (third["event"], third["job"], third["level"]) == ("100% done", "4", "debug")


def test_events_that_any_user_can_cause_are_limited_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    now = [0.0]
    logging.getLogger("qslurm.tests.limited").addFilter(RateLimit(3, clock=lambda: now[0]))
    log = EventLog("qslurm.tests.limited")
    for number in range(10):
        log.warning("connection refused", number=number)
    assert [record.fields["number"] for record in caplog.records] == [0, 1, 2]  # type: ignore[attr-defined]
    now[0] += 60.0
    log.warning("connection refused", number=10)
    assert caplog.records[-1].fields == {"number": 10, "left_out": 7}  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", ["/dev/full", None])
def test_a_line_that_can_not_be_written_stops_nobody(
    name: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = None if name is None else Path(name).open("w")  # noqa: SIM115 - closed below, which fails
    monkeypatch.setattr("sys.stderr", stream)
    say("hook", "told the dispatcher of an end", job=12)
    monkeypatch.undo()
    if stream is not None:
        with suppress(OSError):
            stream.close()
