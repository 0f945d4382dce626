"""`qslurm submit --backend any`, and the platform of a submission, where several are configured."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

from qslurm.cli.app import run
from qslurm.errors import UnreachableError
from tests.unit.cli.two_platforms import TWO, Platform, job

BELL = "version 3.0\nqubit[{qubits}] q\nbit[2] b\nH q[0]\nb[0] = measure q[0]\n"


@pytest.fixture
def files(world, tmp_path, monkeypatch):
    """Circuits of 2 and 9 qubits; on c2 qx is busy, tuna has a small free backend and a large busy one."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small.cq").write_text(BELL.format(qubits=2))
    (tmp_path / "large.cq").write_text(BELL.format(qubits=9))
    (tmp_path / "vqe.py").write_text("def execute(qi):\n    pass\ndef finalize(r):\n    return {}\n")
    sent = []
    for name, backends in {
        "c2": [{"name": "qx", "state": "executing", "qubits": 26, "max_shots": 1000}],
        "tuna": [
            {"name": "tuna5", "state": "idle", "qubits": 5, "max_shots": 100},
            {"name": "big", "state": "idle", "qubits": 40, "max_shots": 100, "queued": 3},
        ],
    }.items():
        world[name] = Offering(name, backends, sent)
    return sent


class Offering(Platform):
    """A platform with backends and an empty queue, that takes every job."""

    def __init__(self, name, backends, sent):
        super().__init__()
        self.name, self.backends, self.sent = name, backends, sent

    def __call__(self, config):
        center = super().__call__(config)
        center.job_manager.backends = lambda: self.backends
        center.job_manager.loads = list
        center.slurm.partitions = lambda: {f"p_{one['name']}": "UP" for one in self.backends}
        center.slurm.submit = self._take
        return center

    def _take(self, payload):
        self.sent.append((self.name, payload["job"]["partition"]))
        return SimpleNamespace(job_id=500 + len(self.sent), warnings=[], message="")


@pytest.mark.parametrize(
    ("words", "printed", "sent"),
    [
        (("small.cq", "-b", "any"), "tuna:501", ("tuna", "p_tuna5")),
        (("large.cq", "-b", "any"), "501", ("c2", "p_qx")),
        (("large.cq", "-b", "any", "-M", "tuna"), "tuna:501", ("tuna", "p_big")),
        (("small.cq", "-b", "any", "--shots", "500"), "501", ("c2", "p_qx")),
        (("small.cq", "-b", "any", "--qubits", "30"), "tuna:501", ("tuna", "p_big")),
        (("small.cq", "-b", "any", "-d", "afterok:12"), "501", ("c2", "p_qx")),
        (("small.cq", "-b", "any", "-d", "afterok:c2:12"), "501", ("c2", "p_qx")),
        (("vqe.py", "-b", "any"), "tuna:501", ("tuna", "p_tuna5")),
        (("vqe.py", "-b", "any", "--qubits", "9"), "501", ("c2", "p_qx")),
        (("small.cq", "-b", "qx"), "501", ("c2", "p_qx")),
        (("small.cq", "-b", "tuna5", "-M", "tuna"), "tuna:501", ("tuna", "p_tuna5")),
    ],
)
def test_a_job_goes_where_it_is_sent_or_to_the_first_free_one_that_fits(
    words, printed, sent, world, files, capsys
):
    world["c2"].known[12] = job(12)
    assert run(["submit", *words, "--parsable"]) == 0
    assert capsys.readouterr().out == f"{printed}\n"
    assert files == [sent]


def test_it_is_said_which_was_chosen_and_why(files, capsys):
    assert run(["submit", "small.cq", "-b", "any"]) == 0
    said = capsys.readouterr()
    assert said.err == "--backend any: tuna5 of tuna is free.\n"
    assert said.out == "Submitted job tuna:501 to p_tuna5 on tuna\n"


def test_a_platform_that_is_away_is_not_chosen(world, files, capsys):
    world["tuna"] = Platform(away=UnreachableError("tuna's C2 does not answer."))
    assert run(["submit", "small.cq", "-b", "any", "--json"]) == 0
    said = capsys.readouterr()
    assert "qslurm: tuna: tuna's C2 does not answer." in said.err
    document = json.loads(said.out)
    assert (document["id"], document["platform"]) == ("501", "c2")


def test_many_files_go_to_one_backend_that_fits_all(files, capsys):
    assert run(["submit", "small.cq", "large.cq", "-b", "any", "-M", "tuna", "--json"]) == 0
    assert [one["id"][:6] for one in json.loads(capsys.readouterr().out)["jobs"]] == ["tuna:5", "tuna:5"]
    assert files == [("tuna", "p_big")] * 2


def test_a_file_may_say_its_platform(files, tmp_path, capsys):
    (tmp_path / "own.cq").write_text("// #QSLURM -M tuna -b tuna5\n" + BELL.format(qubits=2))
    assert run(["submit", "own.cq", "--parsable"]) == 0
    assert run(["submit", "own.cq", "-M", "c2", "-b", "qx", "--parsable"]) == 0
    assert files == [("tuna", "p_tuna5"), ("c2", "p_qx")]
    capsys.readouterr()
    assert run(["submit", "own.cq", "-M", "c2", "--parsable"]) == 2  # its backend is tuna's
    assert "No backend given" in capsys.readouterr().err
    (tmp_path / "other.cq").write_text("// #QSLURM -M c2 -b qx\n" + BELL.format(qubits=2))
    assert run(["submit", "own.cq", "other.cq"]) == 2
    assert "different platforms: c2, tuna" in capsys.readouterr().err


def test_the_configuration_may_leave_the_backend_open(files, tmp_path, capsys):
    (tmp_path / "config.toml").write_text(TWO + '[job]\nbackend = "any"\n')
    assert run(["submit", "small.cq", "--parsable"]) == 0
    assert run(["submit", "small.cq", "-p", "p_qx", "--parsable"]) == 0
    assert files == [("tuna", "p_tuna5"), ("c2", "p_qx")]


def test_what_the_center_does_not_allow_is_not_chosen(world, files, capsys):
    world["tuna"].backends[0]["allowed"] = False  # as the center's agent says
    assert run(["submit", "small.cq", "-b", "any", "-M", "tuna", "--parsable"]) == 0
    assert files == [("tuna", "p_big")]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ("large.cq", "-b", "any", "--qubits", "50"),
            "needs 50 qubits. There are qx of c2 (26 qubits), tuna5 of tuna",
        ),
        (
            ("small.cq", "-b", "any", "-p", "p_qx"),
            "--partition p_qx and --backend any are mutually exclusive.",
        ),
        (("small.cq", "-b", "any", "--qubits", "0"), "--qubits"),
        (("small.cq", "-b", "any", "-M", "tuno"), "Did you mean tuna?"),
        (
            ("small.cq", "-b", "any", "-M", "c2", "-d", "afterok:tuna:12"),
            "No platform has all jobs of the dependency",
        ),
        (("small.cq", "-b", "any", "-d", "afterok:12:tuna:13"), "they are on c2, tuna."),
        (
            ("small.cq", "-b", "qx", "-d", "afterok:tuna:12"),
            "is on a job of tuna, and this one would go to c2.",
        ),
        (("small.cq", "-b", "any", "-d", "afterok:tuno:12"), "they are on tuno."),
    ],
)
def test_nothing_is_sent_when_it_is_not_clear_where(words, said, files, capsys):
    assert run(["submit", *words]) == 2
    assert said in capsys.readouterr().err
    assert files == []


def test_a_number_of_qubits_that_decides_nothing_is_said(files, capsys):
    assert run(["submit", "small.cq", "-b", "qx", "--qubits", "3", "--parsable"]) == 0
    assert "--qubits has no effect without --backend any." in capsys.readouterr().err
    assert run(["submit", "vqe.py", "-b", "any", "--parsable"]) == 0
    assert "Use --qubits N." in capsys.readouterr().err
