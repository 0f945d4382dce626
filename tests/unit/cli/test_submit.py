"""`qslurm submit` as it is typed, as far as nothing is sent."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

import pytest

import qslurm
from qslurm.c1.config.center_config import load_config
from qslurm.c1.config.settings import Config
from qslurm.c1.submission import packing
from qslurm.c1.submission.packing import Package
from qslurm.c1.submission.sending import INVALID_ARRAY
from qslurm.cli import streams
from qslurm.cli.app import run
from qslurm.cli.c1_job_binding import BoundSubmission
from qslurm.cli.shared_options import CenterFlags
from qslurm.cli.submit_batch import SentPackage, SubmitOptions, print_submissions, submission_documents
from qslurm.errors import RefusedError, TokenError, UnreachableError
from qslurm.payload.envelope import unpack
from qslurm.slurm.rest import Submitted
from tests.unit.jobs import job_info

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


class SmallC2:
    """Takes arrays of at most five tasks."""

    prefix, has_job_manager, submissions_at_once = "", False, 4

    def __init__(self, config):
        self.config, self.slurm = config, self
        self.taken, self.tasks_sent, self.firsts = [], [], []
        self.lock, self.api_version = threading.Lock(), "v0.0.38"

    def submit(self, payload):
        last = payload["job"].get("array", "0-0").partition("-")[2].partition("%")[0]
        if int(last) > 4:
            error = RefusedError("Invalid job array specification.")
            error.slurm_error = INVALID_ARRAY
            raise error
        envelope = unpack(payload["script"])
        with self.lock:
            return self.take(payload, envelope, last)

    def take(self, payload, envelope, last):
        self.taken.append([one.file for one in envelope.sources] or [payload["job"]["name"]])
        self.firsts.append(envelope.of_task(0) if last else envelope)
        self.tasks_sent += [envelope.of_task(index) for index in range(int(last) + 1) if envelope.sweep]
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


class RunC2(SmallC2):
    """Runs jobs at once. They complete, but for those that have a state by the name of their file."""

    has_job_manager = True

    def __init__(self, config, **states):
        super().__init__(config)
        self.states, self.ended = states, {}
        self.job_manager = Results(self.ended)

    def submit(self, payload):
        submitted = super().submit(payload)
        names = [name.removesuffix(".cq") for name in self.taken[-1]]
        if names == ["refused"]:
            raise RefusedError("No such account.")
        last = int(payload["job"].get("array", "0-0").partition("-")[2].partition("%")[0])
        names = names if len(names) > 1 else names * (last + 1)
        array = submitted.job_id if last else None
        self.ended[submitted.job_id] = [
            job_info(
                job_id=submitted.job_id * 100 + index if last else submitted.job_id,
                name=name,
                state=self.states.get(name, "COMPLETED"),
                comment=payload["job"]["comment"],
                array_job_id=array,
                array_task_id=index if last else None,
            )
            for index, name in enumerate(names)
        ]
        return submitted

    def tasks(self, job_id):
        return self.ended[job_id]

    def accounted_tasks(self, job_id):
        return []

    def delay(self, waited):
        return 0.0

    def wait_for_change(self, seconds, job):
        pass


class Results:
    """Has counts for every job, by which it can be told from others."""

    def __init__(self, ended):
        self._ended = ended

    def job(self, job_id):
        return {}

    def limits(self):
        return [{"name": "qx", "qubits": 2, "max_shots": 1000}, {"name": "one", "qubits": 1, "max_shots": 10}]

    def starts(self, key):
        return []

    def results(self, job_id):
        key = "key#0" if any(job.array_job_id == job_id for job in self._ended.get(job_id, ())) else "key"
        about = {"job_id": job_id, "key": key, "kind": "circuit", "state": "completed"}
        return {**about, "counts": {"0": job_id}}

    def many_results(self, job_ids):
        return [self.results(job_id) for job_id in job_ids]


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
