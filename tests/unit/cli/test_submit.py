"""`qslurm submit` as it is typed, as far as nothing is sent."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import click
import pytest

import qslurm
from qslurm.center import packing
from qslurm.center.config import load_config
from qslurm.center.packing import Package
from qslurm.center.settings import Config
from qslurm.cli.app import run
from qslurm.cli.options import CenterFlags
from qslurm.cli.submit_many import INVALID_ARRAY, _print_all
from qslurm.errors import RefusedError
from qslurm.payload.envelope import unpack
from qslurm.slurmrest import Submitted

BELL = "version 3.0\nqubit[2] q\nbit[2] b\nH q[0]\nb = measure q\n"


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a.cq", "b.cq"):
        (tmp_path / name).write_text(BELL)
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
    assert "none.cq can't be read" in said.err
    error = json.loads(said.out)["error"]
    assert error["hint"].endswith("Nothing was sent: 2 of 3 files can't be.")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["a.cq", "b.cq", "-b", "qx", "--wait"], "--wait is for one file"),
        (["a.cq", "b.cq", "-b", "qx", "--then", "a.cq"], "--then is for one file"),
        (["a.cq", "-b", "qx", "--then", "a.cq", "--wait"], "leave out --wait"),
        (["a.cq", "-b", "qx", "--then-if", "any"], "there is none"),
        (["a.cq", "-b", "qx", "--then", "a.cq", "--then-if", "never"], "'never' is not one of"),
        (["a.cq", "-b", "qx", "--then", "next.sbatch"], "'next.sbatch' does not exist"),
        (["a.cq", "-b", "qx", "--then", "."], "is a directory"),
        (["a.cq", "-b", "qx", "--keep"], "with --wait"),
        (["a.cq", "-b", "qx", "--timeout", "5"], "how long --wait waits"),
        (["a.cq", "-b", "qx", "-p", "p_spin2"], "is backend spin2's, and --backend says qx"),
        (["-b", "qx"], "Nothing to submit"),
        (["a.cq", "-b", "qx", "--array", "5-1"], "array"),
        (["a.cq", "-b", "qx", "--dependency", "later"], "dependency"),
        (["a.cq", "-b", "qx", "--begin", "soon"], "begin time"),
        (["a.cq", "-b", "qx", "--export", "ALL"], "all of this machine's environment"),
        (["a.cq", "-b", "qx", "--sweep", "theta"], "sweep"),
        (["a.cq", "-b", "qx", "--comment", "x" * 2000], "comment would be"),
        (["a.cq", "-b", "qx", "--shots", "0"], "--shots"),
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
        (["results", "1", "--csv", "--json"], "choose one"),
        (["results", "1", "--trace", "energies"], "--plot"),
        (["results", "1", "--plot", "x.pdf"], "neither .svg nor .png"),
        (["results", "1", "--plot", "none/x.svg"], "no folder 'none'"),
        (["logs", "1", "-f", "--json"], "choose one"),
        (["hold", "1_2"], "as a whole"),
        (["queue", "-t", "PD,WAITING"], "'WAITING' is no state"),
        (["show", "1", "--user", "ann"], "--user means nothing to it"),
        (["history", "-S", "someday"], "can't be read"),
        (["history", "-S", "today", "-E", "yesterday"], "is before"),
        (["usage", "--by", "center"], "'center' is none of"),
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
        "qslurm.center.lists",
        "qslurm.slurmrest.client",
    ]
    code = (
        "import sys; from qslurm.cli.app import run\n"
        "code = run(['submit', 'a.cq', '--backend', 'qx', '--parsable'])\n"
        f"print(code, [name for name in {heavy!r} if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"QSLURM_AGENT": "no.sock", "HOME": "/", "PYTHONPATH": str(Path(qslurm.__file__).parent.parent)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout == "5 []\n", done.stderr  # 5: nobody is there to take it


def test_many_files_are_one_payload_unless_they_shall_be_separate(here, capsys):
    names = [f"c{number:02}.cq" for number in range(20)]
    for name in names:
        (here / name).write_text(BELL)
    assert run(["submit", *names, "-b", "qx", "--dry-run"]) == 0
    (job,) = json.loads(capsys.readouterr().out)["jobs"]
    assert (job["files"], job["payload"]["job"]["array"]) == (names, "0-19")
    assert run(["submit", *names, "-b", "qx", "--dry-run", "--separate"]) == 0
    assert [job["file"] for job in json.loads(capsys.readouterr().out)["jobs"]] == names


def test_each_file_of_an_array_is_said_with_its_own_id(capsys):
    packages = [Package({"job": {"partition": "p_qx"}}, members) for members in ((0, 2), (1,), (3, 4))]
    sent = list(zip(packages, [Submitted(12), Submitted(13), RefusedError("No such account.")], strict=True))
    files = ["a.cq", "b.cq", "c.cq", "d.cq", "e.cq"]
    with pytest.raises(click.exceptions.Exit):
        _print_all(Config(), files, sent, parsable=True, as_json=False)
    said = capsys.readouterr()
    assert said.out.split() == ["12_0", "13", "12_1"]
    assert "d.cq and 1 more: No such account." in said.err
    assert "3 of 5 files were submitted." in said.err
    with pytest.raises(click.exceptions.Exit):
        _print_all(Config(), files, sent, parsable=False, as_json=True)
    jobs = json.loads(capsys.readouterr().out)["jobs"]
    assert [(one.get("id"), one["job_id"], one.get("task")) for one in jobs] == [
        *(("12_0", 12, 0), ("13", 13, None), ("12_1", 12, 1)),
        *((None, None, None), (None, None, None)),
    ]


class SmallC2:
    """Takes arrays of at most five tasks."""

    has_platform = False

    def __init__(self, config):
        self.config, self.slurm = config, self
        self.taken, self.tasks = [], []

    def submit(self, payload):
        last = payload["job"].get("array", "0-0").partition("-")[2].partition("%")[0]
        if int(last) > 4:
            error = RefusedError("Invalid job array specification.")
            error.slurm_error = INVALID_ARRAY
            raise error
        envelope = unpack(payload["script"])
        self.taken.append([one.file for one in envelope.sources] or [payload["job"]["name"]])
        self.tasks += [envelope.of_task(index) for index in range(int(last) + 1) if envelope.sweep]
        return Submitted(len(self.taken))

    def close(self):
        pass


def test_an_array_that_c2_finds_too_large_is_sent_in_parts(here, monkeypatch, capsys):
    names = [f"c{number:02}.cq" for number in range(21)]
    for name in names:
        (here / name).write_text(BELL)
    c2 = SmallC2(load_config({}))
    monkeypatch.setattr(CenterFlags, "open", lambda _, __="": c2)
    assert run(["submit", *names, "-b", "qx", "--json"]) == 0
    jobs = json.loads(capsys.readouterr().out)["jobs"]
    assert [job["file"] for job in jobs] == names
    assert sorted(name for array in c2.taken for name in array) == names
    assert len({job["id"] for job in jobs}) == 21
    for job in jobs:
        assert job["file"] in c2.taken[job["job_id"] - 1][job["task"]]


def test_a_sweep_that_c2_finds_too_large_is_sent_in_parts(here, monkeypatch, capsys):
    (here / "rabi.cq").write_text(BELL.replace("H q[0]", "Rx({{ theta }}) q[0]"))
    monkeypatch.setattr(packing, "MOST_TASKS", 5)
    c2 = SmallC2(load_config({}))
    monkeypatch.setattr(CenterFlags, "open", lambda _, __="": c2)
    words = ("submit", "rabi.cq", "-b", "qx", "--sweep", "theta=0:11:1")
    assert run([*words, "--array", "%2", "--parsable"]) == 0
    said = capsys.readouterr()
    assert (sorted(said.out.split()), "3 arrays" in said.err) == (["1", "2", "3"], True)
    assert sorted(int(task.parameters["theta"]) for task in c2.tasks) == list(range(12))
    assert all(f"Rx({task.parameters['theta']})" in task.source for task in c2.tasks)
    for alone in (("--array", "0-11"), ("--wait",)):  # whose user has said which, or waits for one job
        assert run([*words, *alone]) == 3
    assert len(c2.taken) == 3
