"""The words for times in `qslurm backend reserve`."""

from __future__ import annotations

import time
from datetime import datetime

import pytest

from qslurm.cli.app import run
from qslurm.cli.reservation_commands import Moment
from qslurm.protocol.dispatcher_frames import decode_request, encode
from qslurm.protocol.messages import Reserved


@pytest.mark.parametrize("text", ["2030-01-02 14:30", "2030-01-02T14:30"])
def test_a_date_and_a_time_are_this_hosts(text):
    assert Moment().convert(text, None, None) == datetime(2030, 1, 2, 14, 30).timestamp()


def test_a_time_alone_is_the_next_one():
    found = Moment().convert("14:30", None, None)
    assert time.strftime("%H:%M:%S", time.localtime(found)) == "14:30:00"
    assert time.time() - 1 <= found <= time.time() + 25 * 3600
    assert abs(Moment().convert("now", None, None) - time.time()) < 5


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["--center", "a", "--duration", "soon"], "90m"),
        (["--center", "a", "--duration", "1h", "--start", "25:00"], "14:30"),
        (["--center", "a", "--duration", "1h", "--start", "99999-01-01"], "14:30"),
        (["--duration", "1h"], "--center or --job"),
        (["--duration", "1h", "--job", "3_1"], "task's own job id"),
        (["--duration", "1h", "--center", "a", "--job", "3"], "--center or --job"),
    ],
)
def test_what_can_not_be_read_is_a_usage_error(arguments, word, capsys):
    assert run(["backend", "reserve", "qx", *arguments]) == 2
    assert word in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "center", "job_id"), [(["--center", "a"], "a", 0), (["--job", "3"], "", 3)]
)
def test_a_window_is_a_centers_or_a_jobs(words, center, job_id, monkeypatch, capsys):
    asked = []

    def ask(message, config_file):
        asked.append(decode_request(encode(message)))
        return Reserved(7)

    monkeypatch.setattr("qslurm.cli.dispatcher_calls.ask", ask)
    assert run(["backend", "reserve", "qx", *words, "--duration", "1h"]) == 0
    (message,) = asked
    assert (message.center, message.job_id, message.ends - message.begins) == (center, job_id, 3600)
    assert f"reservation 7: qx for {'center a' if center else 'job 3'}" in capsys.readouterr().out
