"""`qslurm wait` for several jobs: all are waited for, and the worst of them counts."""

from __future__ import annotations

import json

import pytest

from qslurm.c1.config.center_config import load_config
from qslurm.cli.app import run
from qslurm.cli.shared_options import CenterFlags
from qslurm.errors import UnknownJobError, UnreachableError
from qslurm.slurm.job_info import JobInfo

STATES = {
    12: "COMPLETED",
    13: "FAILED",
    14: "CANCELLED",
    15: "TIMEOUT",
    16: "PENDING",
    17: "COMPLETED",
    18: "PENDING",
}


class Platform:
    """Has the same result for each job."""

    def job(self, job_id):
        return {"state": "finished", "reason": ""}

    def results(self, job_id):
        return {"job_id": job_id, "key": "", "kind": "circuit", "counts": {"0": 1}}


class C2:
    """Knows some jobs, each in a state that it stays in."""

    prefix, has_job_manager = "", True

    def __init__(self, config):
        self.config, self.slurm, self.job_manager = config, self, Platform()
        self.away = False

    def tasks(self, job_id):
        if self.away:
            raise UnreachableError("C2 is away.")
        if job_id not in STATES:
            raise UnknownJobError(f"C2 has no job {job_id}.")
        return [JobInfo(job_id=job_id, name="x", state=STATES[job_id])]

    def wait_for_change(self, seconds, job):
        pass

    def delay(self, waited):
        return 0.0


@pytest.fixture(autouse=True)
def c2(tmp_path, monkeypatch):
    (tmp_path / "config.toml").write_text('[c2]\nurl = "http://127.0.0.1:9"\n')
    monkeypatch.setenv("QSLURM_CONFIG", str(tmp_path / "config.toml"))
    made = C2(load_config({}))
    monkeypatch.setattr(CenterFlags, "open", lambda _, __="": made)
    return made


@pytest.mark.parametrize(
    ("jobs", "code"),
    [((12, 17), 0), ((12, 14), 7), ((14, 15, 12), 8), ((15, 13, 14), 6), ((13, 99), 3)],
)
def test_the_worst_of_several_counts(jobs, code, capsys):
    assert run(["wait", *map(str, jobs)]) == code
    shown = capsys.readouterr().out
    assert all(str(job) in shown for job in jobs)


def test_each_is_said_with_its_results_or_its_error(capsys):
    assert run(["wait", "12", "13", "99", "--json"]) == 3
    done, failed, unknown = json.loads(capsys.readouterr().out)["jobs"]
    assert (done["state"], done["results"]["counts"]) == ("COMPLETED", {"0": 1})
    assert (failed["state"], failed["error"]["type"]) == ("FAILED", "job_failed")
    assert (unknown["id"], unknown["error"]["type"]) == ("99", "unknown_job")


def test_a_timeout_is_for_all_of_them(capsys):
    assert run(["wait", "16", "18", "12", "--timeout", "0.01"]) == 8
    said = capsys.readouterr()
    assert [f"Job {job} has not ended after 0.01 s" in said.err for job in (16, 18)] == [True, True]
    assert "16" in said.out
    assert "completed" in said.out  # the others were looked at all the same
    assert "waits again" in said.err


def test_a_c2_that_is_away_is_not_waited_for_job_by_job(c2, monkeypatch, capsys):
    monkeypatch.setattr("qslurm.c1.connection.polling.PATIENCE_S", 0.0)
    c2.away = True
    assert run(["wait", "12", "13"]) == 5
    assert "C2 has not answered" in capsys.readouterr().err
