"""Commands where several platforms are configured: whose job is meant, and what is said when one is away."""

from __future__ import annotations

import json

import pytest

from qslurm.cli.app import run
from qslurm.cli.shared_options import PlatformName
from qslurm.errors import RefusedError, UnreachableError
from tests.unit.cli.two_platforms import Platform


def test_the_queue_is_that_of_all_platforms_with_ids_as_commands_take_them(world, capsys):
    assert run(["queue"]) == 0
    header, *rows = capsys.readouterr().out.splitlines()
    assert header.split()[:2] == ["JOBID", "PLATFORM"]
    assert [tuple(row.split()[:2]) for row in rows] == [
        ("12", "c2"),
        ("13", "c2"),
        ("tuna:12", "tuna"),
        ("tuna:77", "tuna"),
    ]
    assert run(["queue", "--platform", "tuna", "--json"]) == 0
    jobs = json.loads(capsys.readouterr().out)["jobs"]
    assert [(one["id"], one["job_id"], one["platform"]) for one in jobs] == [
        ("tuna:12", 12, "tuna"),
        ("tuna:77", 77, "tuna"),
    ]


def test_one_platform_needs_no_column(world, tmp_path, capsys):
    (tmp_path / "config.toml").write_text('[c2]\nurl = "http://c2"\n')
    assert run(["queue"]) == 0
    header, first, _ = capsys.readouterr().out.splitlines()
    assert "PLATFORM" not in header
    assert first.split()[0] == "12"


@pytest.mark.parametrize("command", ["queue", "history", "usage", "info"])
def test_a_platform_that_is_away_is_said_and_the_others_are_shown(command, world, capsys):
    world["tuna"] = Platform(away=UnreachableError("tuna's C2 does not answer."))
    if command == "info":
        world["c2"] = Platform(away=RefusedError("No."))  # what info asks for is tested where it is decided
    code = run([command])
    said = capsys.readouterr()
    assert code == 5
    if command == "info":
        assert said.out == ""
        assert said.err.splitlines() == ["qslurm: c2: No.", "qslurm: tuna: tuna's C2 does not answer."]
        return
    assert "qslurm: tuna: tuna's C2 does not answer." in said.err
    assert "PLATFORM" in said.out
    assert run([command, "--json"]) == 5
    document = json.loads(capsys.readouterr().out)
    assert document["errors"]["tuna"]["type"] == "unreachable"
    assert "error" not in document


def test_usage_is_by_platform_or_over_all(world, capsys):
    row = {
        "origin": "slurm:x:1:ann",
        "account": "a",
        "backend": "qx",
        "jobs": 1,
        "executions": 2,
        "shots": 10,
    }
    world["c2"].rows, world["tuna"].rows = [{**row, "qpu_seconds": 1.0}], [{**row, "qpu_seconds": 2.0}]
    assert run(["usage", "--json"]) == 0
    used = json.loads(capsys.readouterr().out)["usage"]
    assert [(one["platform"], one["user"], one["qpu_seconds"]) for one in used] == [
        ("tuna", "ann", 2.0),
        ("c2", "ann", 1.0),
    ]
    assert run(["usage", "--by", "user", "--json"]) == 0
    assert [one["shots"] for one in json.loads(capsys.readouterr().out)["usage"]] == [20]


def test_a_jobs_name_says_its_platform(world, capsys):
    assert run(["cancel", "12", "tuna:77", "--json"]) == 0
    assert [one["id"] for one in json.loads(capsys.readouterr().out)["jobs"]] == ["12", "tuna:77"]
    assert (world["c2"].cancelled, world["tuna"].cancelled) == ([12], [77])
    assert run(["show", "tuna:77"]) == 0
    shown = capsys.readouterr().out
    assert "tuna:77 job77" in shown
    assert "platform  tuna" in shown
    assert run(["show", "77", "--platform", "tuna", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["id"] == "tuna:77"


def test_the_environments_platform_is_the_usual_one(world, monkeypatch, capsys):
    monkeypatch.setenv("QSLURM_PLATFORM", "tuna")
    assert run(["show", "77", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["id"] == "77"
    assert run(["show", "c2:13", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["id"] == "c2:13"


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("show", "77"), 3, "Only platform c2 was queried; use tuna:77 for a job on tuna."),
        (("show", "tuna:13"), 3, "Only platform tuna was queried; use c2:13 for a job on c2."),
        (("wait", "77"), 3, "use tuna:77 for"),
        (("cancel", "13", "77"), 3, "use tuna:77 for"),
        (("show", "tuno:77"), 2, "Unknown platform 'tuno'. Did you mean tuna?"),
        (("show", "tuna:12", "-M", "c2"), 2, "Job tuna:12 is on platform tuna, but --platform is c2."),
        (("queue", "-M", "spin"), 2, "Unknown platform 'spin'. Available: c2, tuna."),
        (("show", "tuna:"), 2, "Invalid job id 'tuna:'."),
        (("show", ":77"), 2, "Invalid job id ':77'."),
        (("show", "tu na:77"), 2, "Invalid job id 'tu na:77'."),
        (("show", "tuna:77:1"), 2, "Invalid job id 'tuna:77:1'."),
    ],
)
def test_a_job_of_another_platform_is_not_found_by_chance(words, code, said, world, capsys):
    assert run(words) == code
    assert said in capsys.readouterr().err


def test_an_unknown_job_of_the_only_platform_is_just_unknown(world, tmp_path, capsys):
    (tmp_path / "config.toml").write_text('[c2]\nurl = "http://c2"\n')
    assert run(["show", "77"]) == 3
    assert capsys.readouterr().err == "qslurm: C2 has no job 77.\n"


def test_a_shell_completes_platforms(world):
    assert [one.value for one in PlatformName().shell_complete(None, None, "t")] == ["tuna"]  # type: ignore[arg-type]
