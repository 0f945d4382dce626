"""Steps that see the node as it is: their folders, and what is left of them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import qslurm
from qslurm.runtimes.classical.unconfined import own_folder

STEP = """
import sys
from pathlib import Path
from qslurm.runtimes.classical import unconfined
from qslurm.runtimes.classical.script import run_script

text, *arguments = sys.argv[1:]
work = lambda: run_script(text.encode(), Path.cwd().with_name("script"), arguments)
raise SystemExit(unconfined.run_in_own_folder(work, is_script=True)[0])
"""

HERE = os.environ | {"PYTHONPATH": str(Path(qslurm.__file__).parents[1])}


def run(place: Path, text: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", STEP, text, *arguments], cwd=place, capture_output=True,
                          text=True, timeout=300, check=False, env=HERE)  # fmt: skip


def test_a_script_runs_in_a_folder_of_its_own_that_is_gone_afterwards(tmp_path: Path) -> None:
    done = run(tmp_path, "#!/bin/sh\nls -A; touch left; pwd; echo $1; exit 3\n", "--one")
    assert done.returncode == 3
    folder, word = done.stdout.split()
    assert (Path(folder).name, word) == ("job", "--one")
    assert Path(folder).parents[1] == tmp_path
    assert list(tmp_path.iterdir()) == []


def test_a_script_that_a_signal_ends_ends_its_step_by_it(tmp_path: Path) -> None:
    assert run(tmp_path, "#!/bin/sh\nkill -TERM $$\n").returncode == -signal.SIGTERM
    assert list(tmp_path.iterdir()) == []


def test_a_script_that_no_program_can_run_says_so(tmp_path: Path) -> None:
    done = run(tmp_path, "no program\n")
    assert done.returncode == 1
    assert "Exec format error" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_job_left_is_removed_by_the_next_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "qslurm-job-killed" / "job").mkdir(parents=True)
    (tmp_path / "mine").mkdir()
    with own_folder(tmp_path) as one, own_folder(tmp_path) as other:
        assert one != other
        assert {path.name for path in tmp_path.iterdir()} == {one.name, other.name, "mine"}
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]
