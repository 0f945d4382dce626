"""`qslurm submit` as it sends files, in parts where C2 finds an array too large, and waits for them."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

import pytest

from qslurm.c1.config.center_config import load_config
from qslurm.c1.config.settings import Config
from qslurm.c1.submission import packing
from qslurm.c1.submission.packing import Package
from qslurm.cli import streams
from qslurm.cli.app import run
from qslurm.cli.c1_job_binding import BoundSubmission
from qslurm.cli.shared_options import CenterFlags
from qslurm.cli.submit_batch import SentPackage, SubmitOptions, print_submissions, submission_documents
from qslurm.errors import RefusedError, TokenError, UnreachableError
from qslurm.slurm.rest import Submitted
from tests.unit.cli.small_c2 import RunC2, SmallC2

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


def test_each_file_of_an_array_is_said_with_its_own_id(capsys):
    packages = [Package({"job": {"partition": "p_qx"}}, members) for members in ((0, 2), (1,), (3, 4))]
    outcomes = [Submitted(12), Submitted(13), RefusedError("No such account.")]
    sent = [SentPackage(*one, BoundSubmission("")) for one in zip(packages, outcomes, strict=True)]
    documents, failures = submission_documents(Config(), ["a.cq", "b.cq", "c.cq", "d.cq", "e.cq"], sent)
    assert failures == outcomes[2:]
    assert "d.cq and 1 more: No such account." in capsys.readouterr().err
    documents = list(documents.values())
    print_submissions(Config(), documents, SubmitOptions(parsable=True))
    assert capsys.readouterr().out.split() == ["12_0", "13", "12_1"]
    assert [(one.get("id"), one["job_id"], one.get("task")) for one in documents] == [
        *(("12_0", 12, 0), ("13", 13, None), ("12_1", 12, 1)),
        *((None, None, None), (None, None, None)),
    ]


@pytest.mark.parametrize("error", [UnreachableError("C2 is away."), TokenError("It has expired.")])
def test_a_job_that_c2_has_taken_is_said_though_its_version_can_not_be_asked(
    here, monkeypatch, capsys, error
):
    class Silent(SmallC2):
        @property
        def api_version(self):
            raise error

        @api_version.setter
        def api_version(self, _):
            pass

    c2 = Silent(load_config({}))
    monkeypatch.setattr(CenterFlags, "open", lambda _, __="": c2)
    (here / "bell.cq").write_text(BELL)
    assert run(["submit", "bell.cq", "-b", "qx", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["id"], document["api_version"]) == ("1", None)


@pytest.mark.parametrize("how", [SubmitOptions(), SubmitOptions(parsable=True), SubmitOptions(as_json=True)])
def test_the_ids_of_jobs_are_said_whatever_has_become_of_stdout(how, monkeypatch, capsys):
    documents = [
        {"file": f"{name}.cq", "id": str(number), "job_id": number, "partition": "p_qx"}
        for name, number in (("a", 12), ("b", 13))
    ]
    with Path("/dev/full").open("w") as full:
        monkeypatch.setattr("sys.stdout", full)
        print_submissions(Config(), documents, how)
        monkeypatch.undo()
        with suppress(OSError):
            full.close()
    assert streams.take_lost() is not None
    said = capsys.readouterr().err
    assert "Submitted job 12 to p_qx on C2: a.cq" in said
    assert "Submitted job 13 to p_qx on C2: b.cq" in said


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
    assert (sorted(said.out.split()), "submitted as several arrays" in said.err) == (["1", "2", "3"], True)
    assert sorted(int(task.parameters["theta"]) for task in c2.tasks_sent) == list(range(12))
    assert all(f"Rx({task.parameters['theta']})" in task.source for task in c2.tasks_sent)
    assert run([*words, "--array", "0-11"]) == 3  # whose user has said which
    assert len(c2.taken) == 3


@pytest.mark.parametrize("files", [("rabi.cq",), ("rabi.cq", "ramsey.cq")])
@pytest.mark.parametrize(("tasks", "asked"), [(5, ()), (6, ()), (23, ()), (23, ("--array", "%3"))])
def test_a_sweep_is_halved_as_many_files_are_until_c2_takes_it(
    here, monkeypatch, capsys, files, tasks, asked
):
    for file in files:
        (here / file).write_text(BELL.replace("H q[0]", "Rx({{ theta }}) q[0]"))
    c2 = SmallC2(load_config({}))
    monkeypatch.setattr(CenterFlags, "open", lambda _, __="": c2)
    words = ("submit", *files, "-b", "qx", "--sweep", f"theta=0:{tasks - 1}:1", *asked)
    assert run([*words, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    for file in files:
        swept = [task for task in c2.tasks_sent if task.file == file]
        assert sorted(int(task.parameters["theta"]) for task in swept) == list(range(tasks))
    if len(document.get("jobs", [])) > len(files):
        firsts = [
            (job["file"], int(c2.firsts[job["job_id"] - 1].parameters["theta"])) for job in document["jobs"]
        ]
        assert firsts == sorted(firsts)


@pytest.fixture
def run_c2(monkeypatch):
    def made(**states):
        c2 = RunC2(load_config({}), **states)
        monkeypatch.setattr(CenterFlags, "open", lambda _, __="": c2)
        return c2

    return made


def test_many_files_are_waited_for_and_the_worst_of_them_counts(here, run_c2, capsys):
    for name in ("c.cq", "refused.cq"):
        (here / name).write_text(BELL)
    run_c2(b="CANCELLED", c="TIMEOUT")
    assert run(["submit", "a.cq", "b.cq", "-b", "qx", "--wait"]) == 7
    said = capsys.readouterr()
    assert said.out.startswith("Submitted job 1 to p_qx on C2: a.cq\nSubmitted job 2 to p_qx on C2: b.cq\n")
    assert [line.split()[:3] for line in said.out.splitlines()[3:]] == [
        ["1", "a.cq", "completed"],
        ["2", "b.cq", "cancelled"],
    ]
    assert "Job 2 was cancelled" in said.err
    assert run(["submit", "a.cq", "b.cq", "c.cq", "-b", "qx", "--wait", "--parsable"]) == 8
    assert capsys.readouterr().out.split() == ["3", "4", "5"]
    assert run(["submit", "a.cq", "refused.cq", "-b", "qx", "--wait", "--json"]) == 3
    good, bad = json.loads(capsys.readouterr().out)["jobs"]
    assert (good["file"], good["state"], good["results"]["counts"]) == ("a.cq", "completed", {"0": 6})
    assert (bad["file"], bad["job_id"], bad["error"]["type"]) == ("refused.cq", None, "refused")


BEYOND = [
    (["a.cq", "-b", "one", "-s", "5"], "a.cq asks for 2 qubits, and backend one takes at most 1."),
    (["a.cq", "-b", "qx", "-s", "1001"], "a.cq asks for 1001 shots, and backend qx takes at most 1000."),
    (["a.cq", "b.cq", "-b", "one"], "b.cq asks for 2 qubits, and backend one takes at most 1."),
    (["rabi.cq", "-b", "one", "-s", "11", "--sweep", "theta=0:1:0.5"], "rabi.cq asks for 11 shots"),
    (
        ["hybrid.py", "-b", "one", "-s", "11"],
        "hybrid.py asks for 11 shots, and backend one takes at most 10.",
    ),
]


@pytest.mark.parametrize(("words", "said"), BEYOND)
def test_what_is_beyond_the_backend_is_refused_unsent(here, run_c2, capsys, words, said):
    (here / "hybrid.py").write_text("def execute(qi): pass\ndef finalize(results): return {}\n")
    (here / "rabi.cq").write_text("version 3.0\nqubit q\nbit b\nRx({{ theta }}) q\nb = measure q\n")
    c2 = run_c2()
    assert run(["submit", *words]) == 2
    assert said in capsys.readouterr().err
    assert c2.taken == []
    assert run(["submit", *words, "--dry-run"]) == 0  # which asks nobody


def test_each_file_of_an_array_has_its_own_end(here, run_c2, monkeypatch, capsys):
    monkeypatch.setattr("qslurm.c1.submission.sending.FEWEST", 2)
    c2 = run_c2(b="FAILED")
    assert run(["submit", "a.cq", "b.cq", "-b", "qx", "--wait", "--json"]) == 6
    first, second = json.loads(capsys.readouterr().out)["jobs"]
    assert len(c2.taken) == 1
    assert (first["id"], first["state"], first["results"]["counts"]) == ("1_0", "completed", {"0": 100})
    assert (second["id"], second["state"], second["error"]["type"]) == ("1_1", "failed", "job_failed")


def test_a_file_whose_results_can_not_be_had_is_known_to_be_completed(here, run_c2, monkeypatch, capsys):
    asked = []

    def away(job_ids):
        asked.append(job_ids)
        raise UnreachableError("The job manager is away.")

    monkeypatch.setattr("qslurm.c1.submission.sending.FEWEST", 2)
    run_c2().job_manager.many_results = away
    assert run(["submit", "a.cq", "b.cq", "-b", "qx", "--wait", "--json"]) == 0
    files = json.loads(capsys.readouterr().out)["jobs"]
    assert [(one["state"], one["error"]["type"]) for one in files] == [("completed", "unreachable")] * 2
    assert len(asked) == 1  # a thousand files are not asked for one by one then


def test_a_sweep_in_parts_is_waited_for_as_a_whole(here, run_c2, monkeypatch, capsys):
    (here / "rabi.cq").write_text(BELL.replace("H q[0]", "Rx({{ theta }}) q[0]"))
    monkeypatch.setattr(packing, "MOST_TASKS", 5)
    c2 = run_c2()
    assert run(["submit", "rabi.cq", "-b", "qx", "--sweep", "theta=0:6:1", "--wait"]) == 0
    assert len(c2.taken) == 2
    rows = [line.split() for line in capsys.readouterr().out.splitlines()[3:]]
    assert [(row[1], row[2], row[3]) for row in rows] == [
        ("rabi.cq", str(theta), "completed") for theta in range(7)
    ]
