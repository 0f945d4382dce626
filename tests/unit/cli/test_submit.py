"""`qslurm submit` as it is typed, as far as nothing is sent."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import qslurm
from qslurm.cli.app import run

BELL = "version 3.0\nqubit[2] q\nbit[2] b\nH q[0]\nb = measure q\n"


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a.cq", "b.cq"):
        (tmp_path / name).write_text(BELL)
    (tmp_path / "s.sh").write_text("#!/bin/bash\ntrue\n")
    (tmp_path / "config.toml").write_text('[c2]\nurl = "http://127.0.0.1:9"\n')
    monkeypatch.setenv("QSLURM_CONFIG", str(tmp_path / "config.toml"))
    return tmp_path


def test_several_files_are_several_payloads(capsys):
    assert run(["submit", "a.cq", "b.cq", "-b", "qx", "--dry-run"]) == 0
    jobs = json.loads(capsys.readouterr().out)["jobs"]
    assert [job["file"] for job in jobs] == ["a.cq", "b.cq"]
    assert [job["payload"]["job"]["name"] for job in jobs] == ["a", "b"]
    assert len({job["payload"]["job"]["comment"] for job in jobs}) == 2


def test_of_several_files_all_that_is_wrong_is_said_and_nothing_sent(here, capsys):
    (here / "bad.cq").write_text("version 3.0\nHH q\n")
    assert run(["submit", "a.cq", "bad.cq", "none.cq", "-b", "qx", "--json"]) == 2
    said = capsys.readouterr()
    assert "bad.cq:2" in said.err
    assert "Cannot read none.cq" in said.err
    error = json.loads(said.out)["error"]
    assert error["hint"].endswith("Nothing was submitted: 2 of 3 files are invalid.")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["a.cq", "b.cq", "-b", "qx", "--timeout", "5"], "--timeout requires --wait"),
        (["a.cq", "b.cq", "-b", "qx", "--then", "a.cq"], "--then takes one file"),
        (["a.cq", "-b", "qx", "--then", "a.cq", "--wait"], "mutually exclusive"),
        (["a.cq", "-b", "qx", "--then-if", "any"], "--then-if requires --then"),
        (["a.cq", "-b", "qx", "--then", "a.cq", "--then-if", "never"], "'never' is not one of"),
        (["a.cq", "-b", "qx", "--then", "next.sbatch"], "'next.sbatch' does not exist"),
        (["a.cq", "-b", "qx", "--then", "."], "is a directory"),
        (["a.cq", "-b", "qx", "--keep"], "--keep requires --wait"),
        (["a.cq", "-b", "qx", "--timeout", "5"], "--timeout requires --wait"),
        (["a.cq", "-b", "qx", "-p", "p_spin2"], "is backend spin2's, and --backend says qx"),
        (["-b", "qx"], "No file given"),
        (["a.cq", "-b", "qx", "--array", "5-1"], "array"),
        (["a.cq", "-b", "qx", "--dependency", "later"], "dependency"),
        (["a.cq", "-b", "qx", "--begin", "soon"], "begin time"),
        (["a.cq", "-b", "qx", "--export", "ALL"], "--export=ALL is not supported"),
        (["a.cq", "-b", "qx", "--sweep", "theta"], "sweep"),
        (["a.cq", "-b", "qx", "--comment", "x" * 2000], "comment would be"),
        (["a.cq", "-b", "qx", "--shots", "0"], "'0' is not a whole number, 1 or more"),
        (["a.cq", "-b", "qx", "--shots", "9" * 5000], "is not a whole number"),
        (["a.cq", "-b", "qx", "--qpu-seconds", "nan"], "--qpu-seconds"),
        (["a.cq", "-b", "qx", "--time", "-5"], "time limit"),
        (["a.cq", "-b", "qx", "--set", "theta"], "NAME=VALUE"),
    ],
)
def test_nonsense_never_leaves_and_each_option_says_so(words, said, capsys):
    assert run(["submit", *words, "--dry-run"]) == 2
    found = capsys.readouterr().err
    assert said in found
    assert "Traceback" not in found


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["results", "1", "--csv", "--json"], "mutually exclusive"),
        (["results", "1", "--trace", "energies"], "--plot"),
        (["results", "1", "--plot", "x.pdf"], "Unsupported file 'x.pdf'"),
        (["results", "1", "--plot", "none/x.svg"], "directory 'none' does not exist"),
        (["logs", "1", "-f", "--json"], "mutually exclusive"),
        (["hold", "1_2"], "the whole array"),
        (["cancel", "1_[2-3]"], "use 1 for all of its tasks, or 1_1 for one"),
        (["session", "-b", "qx", "--", "no-such-command"], "Command not found: no-such-command"),
        (["run", "s.sh"], "neither a circuit nor a hybrid Python file"),
        (["queue", "-t", "PD,WAITING"], "Unknown state 'WAITING'"),
        (["show", "1", "--user", "ann"], "--user has no effect"),
        (["history", "-S", "someday"], "Invalid time"),
        (["history", "-S", "today", "-E", "yesterday"], "is before"),
        (["usage", "--by", "center"], "Unknown column 'center'"),
    ],
)
def test_nonsense_about_jobs_is_said_before_c2_is_asked(words, said, capsys, monkeypatch):
    monkeypatch.setenv("QSLURM_AGENT", "no.sock")
    assert run(words) == 2
    assert said in capsys.readouterr().err


def test_without_an_agent_a_follow_up_is_refused_with_what_there_is_instead(capsys):
    assert run(["submit", "a.cq", "-b", "qx", "--then", "a.cq"]) == 2
    assert "Use --wait" in capsys.readouterr().err


def test_submitting_a_circuit_loads_nothing_that_takes_long(here):
    heavy = [
        "jinja2",
        "requests",
        "ssl",
        "jwt",
        "asyncio",
        "qslurm.circuits.cqasm1",
        "qslurm.c1.queries.lists",
        "qslurm.slurm.rest.client",
    ]
    code = (
        "import os, sys; from qslurm.cli.app import run\n"
        "words = ['submit', 'a.cq', '--backend', 'qx', '--parsable']\n"
        "code = run(words)\n"
        "os.environ |= {'QSLURM_AGENT': '', 'QSLURM_AGENT_ADDRESS': '127.0.0.1:9'}  # as on a compute node\n"
        f"print(code, run(words), [name for name in {heavy!r} if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"QSLURM_AGENT": "no.sock", "HOME": "/", "PYTHONPATH": str(Path(qslurm.__file__).parent.parent)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout == "5 5 []\n", done.stderr  # 5: nobody is there to take it


def test_many_files_are_one_payload_unless_they_shall_be_separate(here, capsys):
    names = [f"c{number:02}.cq" for number in range(20)]
    for name in names:
        (here / name).write_text(BELL)
    assert run(["submit", *names, "-b", "qx", "--dry-run"]) == 0
    (job,) = json.loads(capsys.readouterr().out)["jobs"]
    assert (job["files"], job["payload"]["job"]["array"]) == (names, "0-19")
    assert run(["submit", *names, "-b", "qx", "--dry-run", "--separate"]) == 0
    assert [job["file"] for job in json.loads(capsys.readouterr().out)["jobs"]] == names
