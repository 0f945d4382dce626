"""The wheel is complete: installed into an empty environment, and run from there."""

import json
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]
CIRCUIT = "version 3.0\nqubit[2] q\nbit[2] b\nH q[0]\nCNOT q[0], q[1]\nb = measure q\n"


def pip(*arguments):
    cache = CHECKOUT / ".state" / "cache" / "pip"
    command = (
        sys.executable,
        "-m",
        "pip",
        "--cache-dir",
        cache,
        "--disable-pip-version-check",
        "--no-input",
        *arguments,
    )
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    build = (sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", folder)
    subprocess.run(build, cwd=CHECKOUT, check=True, capture_output=True, timeout=300)
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """The bin folder of an environment with only the wheel and its dependencies."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder)
    pip("--python", folder / "bin" / "python", "install", "--no-compile", wheel)
    return folder / "bin"


def run(program, *arguments, cwd):
    clean = {"PATH": "/usr/bin:/bin", "HOME": str(cwd)}
    return subprocess.run(
        (program, *arguments), cwd=cwd, env=clean, capture_output=True, text=True, timeout=60, check=False
    )


def test_templates_examples_and_types_are_in_the_wheel(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {
        "qslurm/py.typed",
        "qslurm/_templates/circuit.json.j2",
        "qslurm/_templates/examples/bell.cq",
    } <= names
    assert any(name.endswith("share/qslurm/deploy/README.md") for name in names)


def test_a_payload_is_rendered_by_the_installed_program(installed, tmp_path):
    (tmp_path / "bell.cq").write_text(CIRCUIT)
    done = run(installed / "qslurm", "submit", "bell.cq", "--backend", "qx", "--dry-run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["job"]["partition"] == "p_qx"


def test_without_the_emulator_run_says_which_extra_has_it(installed, tmp_path):
    (tmp_path / "bell.cq").write_text(CIRCUIT)
    done = run(installed / "qslurm", "run", "bell.cq", cwd=tmp_path)
    assert done.returncode == 2
    assert "qslurm[run]" in done.stderr
    assert "Traceback" not in done.stderr
