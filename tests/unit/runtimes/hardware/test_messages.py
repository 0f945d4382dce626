"""What a hardware server may say, and what is made of it: decisions on plain data, no sockets."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qslurm.errors import ConfigError
from qslurm.runtimes.hardware.messages import (
    ExecutePayload,
    HardwareRefusedError,
    Request,
    decode_publication,
    decode_reply,
    encode,
)
from qslurm.runtimes.hardware.status_stream import PublishedStatus
from qslurm.runtimes.machine_result import InvalidReplyError, MachineResult, check_results
from qslurm.runtimes.plugin import find_plugin, read_options

ASKED = Request("s", "execute", ExecutePayload(3, "version 3.0", 10))
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
STATES = st.sampled_from(["OFFLINE", "CALIBRATING", "EXECUTING", "IDLE"])


def test_requests_are_written_as_published() -> None:
    assert json.loads(encode(Request("s", "initialize"))) == {"session_id": "s", "command": "initialize"}
    assert json.loads(encode(ASKED)) == {
        "session_id": "s",
        "command": "execute",
        "payload": {"job_id": 3, "circuit": "version 3.0", "number_of_shots": 10, "include_raw_data": False},
    }


@given(st.binary(max_size=200) | JSON.map(lambda value: json.dumps(value).encode()))
def test_rubbish_is_called_rubbish(text: bytes) -> None:
    with pytest.raises(InvalidReplyError):
        decode_reply(text, ASKED, MachineResult)
    assert decode_publication(text) is None


@given(JSON)
def test_a_payload_is_a_result_of_the_job_or_rubbish(payload: object) -> None:
    text = json.dumps({"session_id": "s", "status": "success", "payload": payload}).encode()
    with pytest.raises(InvalidReplyError):
        decode_reply(text, ASKED, MachineResult)


@given(JSON)
def test_a_failure_is_a_refusal_whatever_it_gives_as_reason(payload: object) -> None:
    text = json.dumps({"session_id": "s", "status": "failure", "payload": payload}).encode()
    with pytest.raises(HardwareRefusedError):
        decode_reply(text, ASKED, MachineResult)


def test_a_machine_s_words_reach_users_as_one_short_printable_line() -> None:
    words = "too \x1b[31mhot\n" + "x" * 1000
    text = json.dumps({"session_id": "s", "status": "failure", "payload": {"error_msg": words}}).encode()
    with pytest.raises(HardwareRefusedError) as caught:
        decode_reply(text, ASKED, MachineResult)
    assert caught.value.message.startswith("too [31mhot x")
    assert caught.value.message.isprintable()
    assert len(caught.value.message) <= 500


@given(
    st.dictionaries(st.text(alphabet="01", min_size=1, max_size=4), st.integers(-2, 20), max_size=5),
    st.none() | st.lists(st.text(alphabet="01x", max_size=3), max_size=30),
)
def test_results_that_pass_are_possible_ones(results: dict[str, int], raw_data: list[str] | None) -> None:
    try:
        check_results(MachineResult(3, results, raw_data), 25, {2, 3})
    except InvalidReplyError:
        return
    assert 1 <= sum(results.values()) <= 25
    assert all(re.fullmatch("[01]{2,3}", string) for string in [*results, *(raw_data or [])])


@given(st.lists(st.tuples(STATES, st.floats(0, 40)), max_size=30), st.floats(0, 40))
def test_hardware_is_offline_exactly_when_it_says_so_or_nothing(
    steps: list[tuple[str, float]], pause: float
) -> None:
    status, now, last = PublishedStatus(15.0, 0.0), 0.0, None
    for state, seconds in steps:
        now += seconds
        status.note(state, now, 1e9 + now)  # type: ignore[arg-type]
        assert status.health(now).state == state.lower()
        last = state
    health = status.health(now + pause)
    gone = last is None or now + pause > now + 15.0
    assert health.state == ("offline" if gone else str(last).lower())
    assert bool(health.reason) == (not health.ready)


def test_the_reason_does_not_change_while_the_state_lasts() -> None:
    status = PublishedStatus(15.0, 0.0)
    status.note("CALIBRATING", 1.0, 1e9)
    first = status.health(1.0)
    status.note("CALIBRATING", 9.0, 1e9 + 8)
    assert status.health(9.0) == first
    assert first.reason == "since 01:46:40 UTC"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "host"),
        ({"host": "tcp://qpu"}, "host must be the name or address"),
        ({"host": "qpu", "status_port": 0}, "status_port"),
        ({"host": "qpu", "heartbeat_s": 0.0}, "heartbeat_s"),
        ({"host": "qpu", "missed_heartbeats": 0}, "missed_heartbeats"),
        ({"host": "qpu", "results": "qbits"}, "qbits"),
        ({"hosts": "qpu"}, "Did you mean 'host'"),
    ],
)
def test_options_that_can_not_work_are_named(options: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_options(find_plugin("hardware"), options, "backend 'spin'")
    assert words in str(caught.value)
