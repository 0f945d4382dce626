"""A home folder that the user can't read, as after `sudo -u`, by setpriv, or in a service: run as a process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

import qslurm

CIRCUIT = "version 3.0; qubit q; bit b; b = measure q"
NOBODY = 65534
TOKEN = "eyJhbGciOiJSUzI1NiJ9.eyJzdW4iOiJhIiwiZXhwIjo5OTk5OTk5OTk5fQ.eA"

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """A home with all that may be in one, which whoever runs commands may not enter."""
    home = tmp_path / "home"
    for folder in (".config/qslurm/templates", ".cache/qslurm"):
        (home / folder).mkdir(parents=True)
    (home / ".config/qslurm/config.toml").write_text("not toml")
    (home / ".config/qslurm/templates/circuit.json.j2").write_text("Unknown template")
    home.chmod(0)
    yield home
    home.chmod(0o700)


def as_somebody(home: Path, *words: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run qslurm as somebody who may not read that home; what is compiled already is not compiled again."""
    told = {name: os.environ[name] for name in ("PATH", "PYTHONPYCACHEPREFIX")}
    told |= {"PYTHONPATH": str(Path(qslurm.__file__).parents[1]), "HOME": str(home), **environ}
    user: dict[str, int] = {"user": NOBODY, "group": NOBODY} if os.geteuid() == 0 else {}
    return subprocess.run(
        [sys.executable, "-B", "-m", "qslurm", *words],
        env=told, input=CIRCUIT, capture_output=True, text=True, timeout=60, check=False, cwd="/", **user,
    )  # fmt: skip


@pytest.fixture(scope="module")
def _readable() -> None:
    if as_somebody(Path("/"), "--version").returncode:
        pytest.skip("this checkout is not to be read by others")


@pytest.fixture
def run(home: Path, _readable: None) -> Run:
    return partial(as_somebody, home)


def test_what_can_not_be_read_and_was_not_asked_for_is_passed_over(run: Run, home: Path) -> None:
    done = run("submit", "-", "-b", "qx", "--dry-run")
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["job"]["name"] == "circuit"
    caches = {"XDG_CACHE_HOME": str(home / ".cache"), "TMPDIR": str(home), "SLURM_JWT": TOKEN}
    done = run("submit", "-", "-b", "qx", "--parsable", "--url", "http://127.0.0.1:9", **caches)
    assert (done.returncode, done.stdout) == (5, "")
    assert "is unreachable" in done.stderr


@pytest.mark.parametrize(
    ("words", "environ", "code", "named"),
    [
        ("queue", {"QSLURM_CONFIG": "~/config.toml"}, 2, "home/config.toml: Permission denied"),
        ("queue --url http://127.0.0.1:9 --token-file ~/token", {}, 4, "Cannot read the token file"),
        ("queue --url http://127.0.0.1:9 --token-file ~nobody-here/token", {}, 4, "~nobody-here/token"),
        ("queue", {"QSLURM_CONFIG": "~nobody-here/config.toml"}, 2, "~nobody-here/config.toml"),
        ("submit HOME/a.cq -b qx --parsable", {}, 2, "home/a.cq: "),
        ("submit - -b qx --then HOME/next.sbatch", {}, 2, "home/next.sbatch"),
        ("results 12 --plot HOME/a.svg", {}, 2, "does not exist"),
        ("center init --url http://127.0.0.1:9", {}, 2, "home/.config/qslurm/config.toml: Permission denied"),
        ("man --write HOME/man", {}, 1, "Cannot write the manual"),
    ],
)
def test_what_was_asked_for_is_named(
    run: Run, home: Path, words: str, environ: dict[str, str], code: int, named: str
) -> None:
    said = [word.replace("HOME", str(home)).replace("~/", f"{home}/") for word in words.split()]
    done = run(*said, **environ)
    assert (done.returncode, done.stdout) == (code, "")
    assert named in done.stderr
    assert "Unexpected error" not in done.stderr


def test_a_folder_of_templates_that_was_named_is_not_passed_over(run: Run, home: Path) -> None:
    with TemporaryDirectory() as folder:  # which others may enter, as tmp_path may not be
        Path(folder).chmod(0o755)
        config = Path(folder) / "config.toml"
        config.write_text(f'[job]\ntemplate_folders = ["{home}/.config/qslurm/templates"]\n')
        done = run("submit", "-", "-b", "qx", "--dry-run", QSLURM_CONFIG=str(config))
    assert (done.returncode, done.stdout) == (2, "")
    assert "home/.config/qslurm/templates: Permission denied" in done.stderr
