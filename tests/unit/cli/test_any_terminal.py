"""Whatever the terminal can show, and whatever has become of stdout: a command ends as the job did."""

from __future__ import annotations

import io
import json
import os
import re
import sys
import time
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest

import qslurm.cli
from qslurm.c1.config.center_config import load_config
from qslurm.cli import streams
from qslurm.cli.app import run
from qslurm.cli.shared_options import CenterFlags
from qslurm.errors import UnknownJobError
from qslurm.protocol.job_changes import PartitionLoad
from tests.unit.jobs import job_info

STATES = {12: "COMPLETED", 13: "FAILED", 14: "CANCELLED", 15: "TIMEOUT", 16: "PENDING"}
NAME = "θ-扫描-\udce9"
"""Of a job: Greek, Chinese, and a byte that is no text."""


class C2:
    """Has jobs with such a name, each in a state that it stays in, and the same result for each."""

    prefix, has_job_manager, follow_up_platform = "", True, ""

    def __init__(self, config):
        self.config, self.slurm, self.job_manager, self.user = config, self, Platform(), "center_a"
        self.api_version = "v0.0.38"

    def jobs(self):
        return [self.tasks(number)[0] for number in STATES]

    def accounted(self, since):
        return self.jobs()

    def partitions(self):
        return {"p_qx": "UP"}

    def tasks(self, job_id):
        end = None if job_id == 16 else time.time()
        return [
            job_info(
                job_id=job_id,
                name=NAME,
                state=STATES[job_id],
                account=NAME,
                partition=NAME,
                user="center_a",
                end_time=end,
            )
        ]

    def submit(self, payload):
        raise AssertionError

    def wait_for_change(self, seconds, job):
        pass

    def delay(self, waited):
        return 0.0


class Platform:
    """The job manager."""

    def job(self, job_id):
        return {"state": "finished", "reason": NAME, "name": NAME}

    def jobs(self):
        return []

    def results(self, job_id):
        return {"job_id": job_id, "kind": "circuit", "counts": {"0": 1, "1": 3}, "shots": 4, "reason": NAME}

    def backends(self):
        return [{"name": "qx", "state": "idle", "reason": NAME}]

    def queue(self):
        raise UnknownJobError("This one has no list.")

    def loads(self):
        return [PartitionLoad(partition="p_qx")]

    def usage(self, since, until):
        return [
            {
                "origin": f"shell:::{NAME}",
                "account": NAME,
                "backend": "qx",
                "jobs": 1,
                "executions": 1,
                "shots": 1,
                "qpu_seconds": 1.0,
            }
        ]

    def log_from(self, job_id, offset):
        log = NAME.encode(errors="surrogateescape")
        return log[offset:], len(log)


COMMANDS = {
    "queue --all": 0,
    "show 12": 0,
    "results 12": 0,
    "results 12 --plot -": 0,
    "results 12 --csv": 0,
    "logs 12": 0,
    "wait 12": 0,
    "wait 13": 6,
    "wait 14": 7,
    "wait 15": 8,
    "wait 12 13": 6,
    "wait 16 --timeout 0.001": 8,
    "history -S now-1days": 0,
    "usage": 0,
    "info": 0,
}
"""What is asked of C2, and how it ends."""


@pytest.fixture(autouse=True)
def c2(tmp_path, monkeypatch):
    (tmp_path / "config.toml").write_text('[c2]\nurl = "http://127.0.0.1:9"\n')
    monkeypatch.setenv("QSLURM_CONFIG", str(tmp_path / "config.toml"))
    made = C2(load_config({}))
    monkeypatch.setattr(CenterFlags, "open", lambda _, __="": made)
    return made


def into(monkeypatch, out, err=None):
    """Let the process have these as stdout and stderr, as `main` has them."""
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err or io.TextIOWrapper(io.BytesIO(), "utf-8", "backslashreplace"))
    streams.prepare()
    return sys.stderr


def said(stream):
    return stream.buffer.getvalue().decode()


@pytest.mark.parametrize("encoding", ["latin-1", "ascii", "utf-8", "euc-jp"])
@pytest.mark.parametrize(("command", "code"), COMMANDS.items())
def test_no_letter_decides_how_a_command_ends(encoding, command, code, monkeypatch):
    out = io.TextIOWrapper(io.BytesIO(), encoding)
    err = into(monkeypatch, out, io.TextIOWrapper(io.BytesIO(), encoding))
    assert run(command.split()) == code
    assert out.buffer.getvalue() or code
    assert b"Unexpected error" not in err.buffer.getvalue()


@pytest.mark.parametrize(("command", "code"), [one for one in COMMANDS.items() if "logs" not in one[0]])
def test_a_document_is_utf_8_in_every_locale(command, code, monkeypatch):
    if "--csv" in command or "--plot" in command:
        return  # prints something else
    out = io.TextIOWrapper(io.BytesIO(), "latin-1")
    into(monkeypatch, out)
    assert run([*command.split(), "--json"]) == code
    assert json.loads(out.buffer.getvalue())


def closed_pipe():
    reading, writing = os.pipe()
    os.close(reading)
    return os.fdopen(writing, "w")


STDOUTS = {
    "a full disk": (
        partial(Path("/dev/full").open, "w"),
        1,
        "Cannot write the output: No space left on device",
    ),
    "a closed pipe": (closed_pipe, 0, ""),
    "no stdout": (lambda: None, 0, "stdout is closed"),
}


@pytest.mark.parametrize("stdout", STDOUTS)
@pytest.mark.parametrize(("command", "code"), COMMANDS.items())
def test_a_lost_output_is_a_sentence_and_changes_nothing_but_a_success(stdout, command, code, monkeypatch):
    make, lost, sentence = STDOUTS[stdout]
    prints = not (code and command.count(" ") == 1) and "--timeout" not in command
    out = make()
    err = into(monkeypatch, out)
    assert run(command.split()) == (code or lost)
    with suppress(OSError, AttributeError):
        out.close()
    assert (sentence in said(err)) or not prints
    assert "Unexpected error" not in said(err)


@pytest.mark.parametrize("term", ["dumb", "", None, "xterm"])
def test_lines_are_rewritten_only_where_a_terminal_can(term, monkeypatch):
    class Terminal(io.TextIOWrapper):
        def isatty(self):
            return True

    err = into(monkeypatch, io.TextIOWrapper(io.BytesIO(), "utf-8"), Terminal(io.BytesIO(), "utf-8"))
    monkeypatch.delenv("TERM", raising=False)
    if term is not None:
        monkeypatch.setenv("TERM", term)
    run(["wait", "16", "--timeout", "0.001"])
    assert ("\033[K" in said(err)) == (term == "xterm")


def test_nobody_writes_to_stdout_by_another_way():
    """What is not written by `streams` raises where an encoding or a disk has no room for it."""
    for file in Path(qslurm.cli.__file__).parent.glob("*.py"):
        if file.name != "streams.py":
            assert not re.search(r"click\.echo\(|(?<!\w)print\(|stdout\.(write|buffer)", file.read_text()), (
                file
            )


def test_bars_fit_a_narrow_terminal(monkeypatch):
    class Terminal(io.TextIOWrapper):
        def isatty(self):
            return True

    out = Terminal(io.BytesIO(), "latin-1")
    into(monkeypatch, out)
    monkeypatch.setenv("COLUMNS", "40")
    assert run(["results", "12"]) == 0
    lines = out.buffer.getvalue().decode().splitlines()
    assert lines[1].startswith("1 " + "#" * 20)
    assert max(map(len, lines)) <= 40
