import json

import pytest

from qslurm.cli.app import COMMANDS, SECTIONS, run


def test_every_command_stands_in_one_section_of_the_overview():
    listed = [name for _, names in SECTIONS for name in names]
    assert sorted(listed) == sorted(COMMANDS)


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_every_command_explains_itself(command, capsys):
    assert run([command, "--help"]) == 0
    assert "Usage: qslurm " + command in capsys.readouterr().out


def test_a_mistyped_command_gets_the_nearest_one(capsys):
    assert run(["sumbit"]) == 2
    assert capsys.readouterr().err == (
        "qslurm: Unknown command 'sumbit'. Did you mean `qslurm submit`? Try `qslurm --help`.\n"
    )


def test_an_error_is_a_sentence_on_stderr_and_with_json_a_document_on_stdout(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("QSLURM_CONFIG", str(tmp_path / "none.toml"))
    assert run(["queue", "--json"]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("qslurm: ")
    assert captured.err.count("\n") == 1
    error = json.loads(captured.out)["error"]
    assert error["code"] == 2
    assert set(error) == {"code", "type", "message", "hint"}


def test_a_file_that_is_not_there_is_bad_input_not_a_traceback(capsys):
    assert run(["submit", "missing.cq", "--backend", "qx", "--dry-run"]) == 2
    assert "Cannot read missing.cq: no such file or directory" in capsys.readouterr().err


@pytest.mark.parametrize(
    "job_id",
    [
        "0",
        "-1",
        "abc",
        "1_",
        "_1",
        "1_-1",
        "1_4000001",
        "1_2_3",
        "\uff11",
        " 1",
        "4294967294",
        "4294967308",
        "9" * 30,
    ],
)
def test_what_is_no_job_id_never_reaches_c2(job_id, capsys):
    # slurmrestd keeps 32 bits of it: 4294967308 would cancel job 12
    assert run(["cancel", "--", job_id]) == 2
    assert f"Invalid job id {job_id!r}." in capsys.readouterr().err


@pytest.mark.parametrize("seconds", ["nan", "0", "-1", "x"])
def test_a_wait_has_a_length(seconds, capsys):
    assert run(["wait", "1", "--timeout", seconds]) == 2
    assert "--timeout" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--shots", "--seed"])
def test_a_number_that_c2_could_not_carry_is_bad_input(option, capsys):
    assert run(["submit", "bell.cq", "--backend", "qx", option, str(2**53)]) == 2
    assert option in capsys.readouterr().err
