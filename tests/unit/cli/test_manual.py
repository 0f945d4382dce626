"""What helps at the prompt."""

from __future__ import annotations

import re
import shutil
import subprocess

import pytest

from qslurm.cli.app import COMMANDS, run

MACROS = {".TH", ".SH", ".PP", ".TP", ".B", ".nf", ".fi"}


def test_every_command_has_a_manual_page_that_roff_reads(tmp_path, capsys):
    assert run(["man", "--write", str(tmp_path / "man1")]) == 0
    pages = {path.stem: path.read_text() for path in (tmp_path / "man1").iterdir()}
    assert {f"qslurm-{name}" for name in COMMANDS} | {"qslurm"} <= set(pages)
    for page in pages.values():
        assert page.startswith(".TH ")
        used = {line.split()[0] for line in page.splitlines() if line.startswith((".", "'"))}
        assert used <= MACROS
        assert not re.search(r"(?<!\\)-", page.split(".SH NAME")[1])


def test_a_page_has_options_and_examples(capsys):
    assert run(["man", "submit"]) == 0
    page = capsys.readouterr().out
    assert "qslurm\\-submit \\- Send FILE to C2" in page
    assert "\\fB\\-d, \\-\\-dependency LIST\\fR" in page
    assert "qslurm submit bell.cq \\-\\-backend qx \\-\\-shots 4096 \\-\\-wait" in page


@pytest.mark.parametrize(
    ("words", "said"),
    [(["sumbit"], "Unknown command 'sumbit'"), (["submit", "--write", "x"], "takes no COMMAND")],
)
def test_a_page_that_there_is_not_is_bad_input(words, said, capsys):
    assert run(["man", *words]) == 2
    assert said in capsys.readouterr().err


def test_a_folder_that_can_not_be_written_is_a_sentence(tmp_path, capsys):
    (tmp_path / "file").touch()
    assert run(["man", "--write", str(tmp_path / "file" / "man1")]) == 1
    assert "Cannot write" in capsys.readouterr().err


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_a_script_for_the_shell(shell, capsys, tmp_path):
    assert run(["completion", shell]) == 0
    script = capsys.readouterr().out
    assert f"_QSLURM_COMPLETE={shell}_complete" in script
    if shutil.which(shell):
        (tmp_path / "script").write_text(script)
        done = subprocess.run(
            [shell, "-n", str(tmp_path / "script")], capture_output=True, timeout=30, check=False
        )
        assert (done.returncode, done.stderr) == (0, b"")


def test_a_shell_nobody_knows_is_bad_input(capsys):
    assert run(["completion", "tcsh"]) == 2
    assert "bash" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        (["qslurm", "su"], {"submit"}),
        (["qslurm", "h"], {"hold", "history", "hook"}),
        (["qslurm", "submit", "--sw"], {"--sweep"}),
    ],
)
def test_what_could_come_next_is_named(typed, expected, monkeypatch, capsys):
    monkeypatch.setenv("_QSLURM_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", " ".join(typed))
    monkeypatch.setenv("COMP_CWORD", str(len(typed) - 1))
    with pytest.raises(SystemExit):
        run([])
    assert {line.split(",")[1] for line in capsys.readouterr().out.split()} == expected
