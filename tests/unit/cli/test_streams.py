"""Where output can't go, and when a user has had enough: run as a process, as a shell would."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import qslurm


def run(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """A line of shell; `Q` in it is qslurm."""
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "QSLURM_CONFIG": "",
        "PYTHONPATH": str(Path(qslurm.__file__).parents[1]),
        "PYTHON": sys.executable,
    }
    return subprocess.run(
        ["bash", "-c", f'Q() {{ "$PYTHON" -B -m qslurm "$@"; }}; {command}'],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=folder,
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "s.sh").write_text("#!/bin/bash\ntrue\n")
    (tmp_path / "long.sh").write_text("#!/bin/bash\n" + "#\n" * 500_000)
    return tmp_path


@pytest.mark.parametrize("words", ["s.sh", "long.sh --json"])
def test_a_full_disk_is_a_sentence_and_exit_code_1(folder: Path, words: str) -> None:
    done = run(f"Q submit {words} -b qx --dry-run > /dev/full", folder)
    assert done.returncode == 1
    assert (
        done.stderr
        == "qslurm: Cannot write the output: No space left on device. Check free space and quota of the disk.\n"
    )


def test_an_error_keeps_its_exit_code_when_nobody_can_read_it(folder: Path) -> None:
    for streams in ("> /dev/full", "2> /dev/full", ">&-", "2>&-", ">&- 2>&-", "> /dev/full 2> /dev/full"):
        assert run(f"Q submit none.sh -b qx --json {streams}", folder).returncode == 2, streams


@pytest.mark.parametrize("command", ["submit long.sh -b qx --dry-run", "--help"])
def test_a_reader_that_has_seen_enough_is_no_failure(folder: Path, command: str) -> None:
    done = run(f"Q {command} | true; exit ${{PIPESTATUS[0]}}", folder)
    assert (done.returncode, done.stderr) == (0, "")


def test_an_error_in_a_closed_pipe_is_still_said(folder: Path) -> None:
    done = run("Q submit none.sh -b qx --json | true; exit ${PIPESTATUS[0]}", folder)
    assert done.returncode == 2
    assert "Cannot read none.sh" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_fifo_and_a_device_hang_nobody(folder: Path) -> None:
    os.mkfifo(folder / "f.cq")
    for command in ("submit f.cq -b qx", "run f.cq", "submit /dev/zero -b qx", "run /dev/zero"):
        done = run(f"Q {command} --json", folder)
        assert done.returncode == 2, command
        assert json.loads(done.stdout)["error"]["code"] == 2
    assert run("QSLURM_CONFIG=/dev/zero Q queue", folder).returncode == 2
    assert "No token" in run("QSLURM_CONFIG=f.cq Q queue", folder).stderr  # an empty configuration


def test_ctrl_c_before_anything_has_begun_is_no_traceback(folder: Path) -> None:
    """click, which comes first of all that is imported, sends it."""
    (folder / "click.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGINT)\n1 / 0\n")
    done = run(f'PYTHONPATH="{folder}:$PYTHONPATH" Q --help', folder)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


GONE = "mkdir gone && cd gone && rmdir ../gone && "


@pytest.mark.parametrize(
    ("command", "code"),
    [
        ("submit s.sh -b qx --dry-run", 2),
        ("submit $HOME/s.sh -b qx --dry-run", 0),
        ("submit $HOME/s.sh -b qx --dry-run --then next.sbatch", 2),
        ("run $HOME/h.py", 0),
        ("run $HOME/fails.py", 6),
        ("results 12 --plot x.svg", 2),
        ("center init --url http://127.0.0.1:9 --file config.toml", 2),
        ("center init --url http://127.0.0.1:9 --file $HOME/config.toml", 0),
        ("man --write pages", 1),
        ("doctor", 1),
    ],
)
def test_a_folder_that_is_gone_hinders_only_what_needs_it(folder: Path, command: str, code: int) -> None:
    (folder / "h.py").write_text("def execute(qi): pass\ndef finalize(results): return {}\n")
    (folder / "fails.py").write_text("def execute(qi): 1 / 0\ndef finalize(results): return {}\n")
    done = run(f"{GONE} Q {command}", folder)
    assert done.returncode == code, done.stderr
    assert "Unexpected error" not in done.stderr
    if code == 6:
        assert "fails.py:1: ZeroDivisionError" in done.stderr


def test_a_file_that_goes_elsewhere_is_shown_with_its_own_lines(folder: Path) -> None:
    (folder / "away.py").write_text(
        "import os\ndef execute(qi):\n    os.chdir('/')\n    1 / 0\ndef finalize(results): return {}\n"
    )
    assert "away.py:4: ZeroDivisionError" in run("Q run away.py", folder).stderr


LOCALES = {
    "LC_ALL=C PYTHONUTF8=0 PYTHONCOERCECLOCALE=0": "s\\xe9.sh",
    "PYTHONIOENCODING=latin-1": "\\xce\\xb8.sh",
    "TERM=dumb COLUMNS=40 env -u HOME": "s\\xe9.cq",
}


@pytest.mark.parametrize(("locale", "file"), list(LOCALES.items()))
def test_a_files_name_may_be_any_bytes_in_any_locale(folder: Path, locale: str, file: str) -> None:
    text = "#!/bin/bash" if file.endswith("sh") else "version 3.0; qubit q; bit b; b = measure q"
    command = f"file=$'{file}'; echo '{text}' > \"$file\"; {locale} "
    done = run(f'{command} "$PYTHON" -B -m qslurm submit "$file" -b qx --dry-run', folder)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["job"]["name"]
    done = run(f'{command} "$PYTHON" -B -m qslurm submit "no$file" -b qx --json', folder)
    assert done.returncode == 2
    assert "Cannot read" in json.loads(done.stdout)["error"]["message"]
    assert done.stderr.count("\n") == 1


def test_a_local_run_takes_any_name_and_any_letter(folder: Path) -> None:
    (folder / os.fsdecode(b"h\xe9.py")).write_text(
        'def execute(qi):\n    print("\\u03b8 \\udcff")\ndef finalize(results):\n    return {"\\u03b8": "\\udcff"}\n'
    )
    done = run("PYTHONIOENCODING=latin-1 Q run h*.py --json", folder)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["final_result"] == {"\u03b8": r"\udcff"}
    assert done.stderr.startswith("? ?\n")
