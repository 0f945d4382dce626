"""A whole hybrid job: the shipped VQE (40 circuits of 1024 shots) with `qslurm run`, as a process from start to end.

The peer is the last release of Quantum Inspire's own tools that runs hybrid files locally, on the very same file, in an
environment of its own. Below both stands what Python, scipy and QX cost in one process.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
import venv
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.report import Report
from qslurm.payload.templates import shipped_folder

PEER = "quantuminspire[local]==3.5.3"
TIMEOUT_S = 120.0
INSTALL_TIMEOUT_S = 600.0

FLOOR = """
import sys
from scipy.optimize import minimize
import qxelarator
program = "version 3.0; qubit[2] q; bit[2] b; H q; b = measure q"
for _ in range(40):
    qxelarator.execute_string(program, iterations=1024)
"""


def run(report: Report) -> None:
    """Measure the peer, ours, and the floor, in turn, so that a noisy moment hits all."""
    file = shipped_folder() / "examples" / "vqe_h2.py"
    peer = _peer()
    with TemporaryDirectory(prefix="qs-") as home:
        clean = {"PATH": os.environ["PATH"], "HOME": home}
        commands = {
            "Quantum Inspire 3.5.3, qi files run": [str(peer), "files", "run", str(file)],
            "qslurm run": [sys.executable, "-I", "-m", "qslurm", "run", str(file), "--json"],
            "floor: Python, scipy and QX in one process": [sys.executable, "-I", "-c", FLOOR],
        }
        taken: dict[str, list[float]] = {name: [] for name in commands}
        for command in commands.values():
            _seconds(command, clean)  # files come into the page cache
        for _ in range(report.runs):
            for name, command in commands.items():
                taken[name].append(_seconds(command, clean))
    first = None
    for name, values in taken.items():
        middle = report.add(name, values, unit="s", peer=first)
        first = first or middle


def _seconds(command: list[str], environment: dict[str, str]) -> float:
    began = time.perf_counter()
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
    )
    taken = time.perf_counter() - began
    if done.returncode != 0:
        raise RuntimeError(f"{command[0]} ended with {done.returncode}: {done.stderr[-500:]}")
    return taken


def _peer() -> Path:
    """The peer's program, installed once, below the checkout's own state."""
    state = Path(sys.prefix).parent
    folder = state / "bench" / "quantuminspire-3.5.3"
    program = folder / "bin" / "qi"
    if not program.exists():
        venv.create(folder, with_pip=True, clear=True)
        pip = [str(folder / "bin" / "python"), "-m", "pip", "--cache-dir", str(state / "cache" / "pip")]
        command = [*pip, "--disable-pip-version-check", "install", "--quiet", PEER, "numpy", "scipy"]
        subprocess.run(command, check=True, timeout=INSTALL_TIMEOUT_S, stdout=subprocess.DEVNULL)
    return program
