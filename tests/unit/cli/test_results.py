"""`qslurm results`: what it exits with is what `wait` would."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

from qslurm.c1.config.center_config import load_config
from qslurm.cli.app import run
from qslurm.cli.shared_options import CenterFlags
from qslurm.errors import NotReadyError, UnknownJobError
from qslurm.slurm.job_info import JobInfo
from tests.unit.jobs import job_info

KINDS = {
    "circuit": {"counts": {"0": 3}, "shots": 3, "raw_data": None},
    "hybrid": {"final_result": None, "executions": 0, "shots": 0},
    "session": {"final_result": None, "executions": 2, "shots": 9},
    "script": {},
}


def document(kind="hybrid", state="finished", **more):
    return {
        "job_id": 12,
        "key": "k",
        "kind": kind,
        "name": "x",
        "state": state,
        "reason": "",
        **KINDS[kind],
        **more,
    }


class C2:
    """Its platform knows one job, and its Slurm others."""

    prefix, has_job_manager = "", True

    def __init__(self, config):
        self.config, self.slurm = config, self
        self.job_manager = SimpleNamespace(
            results=self._document, job=self._document, many_results=self._many
        )
        self.jobs = {12: JobInfo(job_id=12, name="x", state="COMPLETED")}
        self.documents = {}

    def job(self, job_id):
        return self.jobs[job_id]

    def tasks(self, job_id):
        array = [job for job in self.jobs.values() if job.array_job_id == job_id]
        return array or [self.jobs[job_id]]

    def accounted_tasks(self, job_id):
        return []

    def _document(self, job_id):
        found = self.documents.get(job_id)
        if found is None:
            raise UnknownJobError(f"no {job_id}")
        if isinstance(found, Exception):
            raise found
        return found

    def _many(self, job_ids):
        raise UnknownJobError("It is older than that.")


@pytest.fixture(autouse=True)
def c2(tmp_path, monkeypatch):
    (tmp_path / "config.toml").write_text('[c2]\nurl = "http://127.0.0.1:9"\n')
    monkeypatch.setenv("QSLURM_CONFIG", str(tmp_path / "config.toml"))
    made = C2(load_config({}))
    monkeypatch.setattr(CenterFlags, "of", lambda _, job: (made, job))
    return made


ENDS = [
    ("finished", {}, 0, ""),
    ("failed", {"reason": "vqe.py:3: ValueError: no."}, 6, "Job 12 failed: vqe.py:3: ValueError: no."),
    ("failed", {"reason": "NonZeroExitCode"}, 6, "Job 12 failed: "),
    ("failed", {}, 6, "Job 12 failed."),
    ("cancelled", {}, 7, "Job 12 was cancelled."),
    ("timed_out", {"reason": "TimeLimit"}, 8, "Job 12 reached its time limit."),
    (
        "timed_out",
        {"reason": "It has used 3 s.", "reason_code": "used_up"},
        8,
        "Job 12 was terminated: It has used",
    ),
]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("state", "more", "code", "words"), ENDS)
def test_what_has_no_result_is_an_error_and_never_a_null(c2, capsys, kind, state, more, code, words):
    c2.documents[12] = document(kind, state, **more)
    assert run(["results", "12", "--json"]) == code
    said = capsys.readouterr()
    found = json.loads(said.out)
    assert (found.get("error", {}).get("code", 0), found.get("kind")) == (code, None if code else kind)
    assert found.get("error", {}).get("message", "").startswith(words)
    for option in ([], ["--csv"], ["--plot", "-"]):
        got = run(["results", "12", *option])
        assert got == code or (not code and option and kind != "circuit")  # a script can't be drawn
        assert not code or capsys.readouterr().out == ""


@pytest.mark.parametrize("has_started", [True, False])
def test_a_job_that_is_not_over_says_so(c2, capsys, has_started):
    c2.jobs[12] = JobInfo(job_id=12, name="x", state="RUNNING" if has_started else "PENDING")
    if has_started:
        c2.documents[12] = NotReadyError("Job 12 has no result yet: it is running.")
    assert run(["results", "12", "--json"]) == 3
    found = json.loads(capsys.readouterr().out)["error"]
    assert (found["type"], "12 has no result" in found["message"]) == ("not_ready", True)


def test_a_job_that_never_ran_ends_as_slurm_says(c2, capsys):
    c2.jobs[12] = JobInfo(job_id=12, name="x", state="CANCELLED", reason="None")
    assert run(["results", "12", "--json"]) == 7
    assert json.loads(capsys.readouterr().out)["error"]["type"] == "job_cancelled"


@pytest.mark.parametrize(
    ("states", "code"),
    [
        (("finished", "finished"), 0),
        (("finished", "failed"), 6),
        (("finished", "cancelled"), 7),
        (("cancelled", "timed_out", "finished"), 8),
        (("cancelled", "failed", "finished", "timed_out"), 6),
        (("failed", "failed"), 6),
        (("cancelled", "cancelled"), 7),
    ],
)
def test_an_array_exits_as_its_worst_task_with_the_results_of_the_others(c2, capsys, states, code):
    slurm = {"finished": "COMPLETED", "timed_out": "TIMEOUT"}
    c2.jobs = {
        20 + index: job_info(
            job_id=20 + index, name="x", state=slurm.get(state, state.upper()), array_job_id=20,
            array_task_id=index, start_time=1, comment="qslurm key=k kind=circuit backend=qx",
        )
        for index, state in enumerate(states)
    }  # fmt: skip
    c2.documents = {
        20 + index: document("circuit", state, job_id=20 + index, key=f"k#{index}")
        for index, state in enumerate(states)
    }
    assert run(["results", "20", "--json"]) == code
    found = json.loads(capsys.readouterr().out)
    if "finished" not in states:
        assert found["error"]["code"] == code
        return
    kept = [index for index, task in enumerate(found["tasks"]) if "error" not in task]
    assert kept == [index for index, state in enumerate(states) if state == "finished"]
    assert all(task["counts"] == {"0": 3} for task in found["tasks"] if "error" not in task)
