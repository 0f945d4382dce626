"""`qslurm run` without its command line: a real dispatcher, a real quantum runtime, each in its process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from qslurm.errors import CircuitError, InvalidInputError, JobFailedError, UnreachableError
from qslurm.local.run_file import run_file
from tests.unit.c2.dispatcher.running import BELL, ROOT, is_gone, slow_circuit
from tests.unit.waiting import until


def a_file(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text)
    return path


def test_a_circuit_gives_counts_by_classical_bit(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(home))
    result = run_file(
        a_file(tmp_path, "x.cq", "version 3.0; qubit[2] q; bit[2] b; X q[0]; b = measure q"), shots=64
    )
    assert (result.kind, result.counts, result.shots) == ("circuit", {"01": 64}, 64)
    assert list(home.iterdir()) == []


def test_a_long_temporary_folder_is_no_obstacle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    long = tmp_path / ("x" * 100)
    long.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    assert run_file(a_file(tmp_path, "x.cq", BELL), shots=8).shots == 8


def test_a_hybrid_file_gives_its_final_result(tmp_path: Path) -> None:
    source = f"""
def execute(qi):
    for _ in range(3):
        qi.execute_circuit({BELL!r}, 100)
def finalize(measurements):
    return {{"shots": sum(sum(counts.values()) for counts in measurements)}}
"""
    result = run_file(a_file(tmp_path, "h.py", source))
    assert (result.kind, result.final_result) == ("hybrid", {"shots": 300})
    assert (result.executions, result.shots) == (3, 300)


def test_with_a_seed_it_repeats_itself_and_no_two_circuits_are_alike(tmp_path: Path) -> None:
    source = f"""
def execute(qi):
    return [qi.execute_circuit({BELL!r}, 1000).results for _ in range(3)]
def finalize(measurements):
    return {{"m": measurements}}
"""
    path = a_file(tmp_path, "h.py", source)
    first, second = run_file(path, seed=7), run_file(path, seed=7)
    assert first == second
    assert first.final_result is not None
    counts = first.final_result["m"]
    assert counts[0] != counts[1] or counts[1] != counts[2]


def test_a_wrong_circuit_is_refused_with_its_place(tmp_path: Path) -> None:
    with pytest.raises(CircuitError, match=r"bad\.cq:3:1"):
        run_file(a_file(tmp_path, "bad.cq", "version 3.0\nqubit q\nFoo q\n"))


@pytest.mark.parametrize("shots", [0, -1, 10**12])
def test_impossible_shots_are_refused(tmp_path: Path, shots: int) -> None:
    with pytest.raises(InvalidInputError, match="shots"):
        run_file(a_file(tmp_path, "x.cq", BELL), shots=shots)


def test_unreadable_and_empty_files_are_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "none.cq", a_file(tmp_path, "empty.cq", " \n"), tmp_path):
        with pytest.raises(InvalidInputError):
            run_file(path)


def test_a_failing_hybrid_file_is_a_failed_job(tmp_path: Path) -> None:
    with pytest.raises(JobFailedError, match="ZeroDivisionError"):
        run_file(a_file(tmp_path, "h.py", "def execute(qi): 1 / 0\ndef finalize(m): return {}\n"))


def test_a_dispatcher_that_is_killed_is_said(tmp_path: Path) -> None:
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as other:  # as those that other stories share
        source = f"""
import os, signal
from pathlib import Path
def execute(qi):
    qi.execute_circuit({BELL!r}, 8)
    for child in Path(f"/proc/self/task/{{os.getpid()}}/children").read_text().split():
        if int(child) not in {children(os.getpid())}:
            os.kill(int(child), signal.SIGKILL)
    qi.execute_circuits([{BELL!r}], 8)
def finalize(measurements):
    return {{}}
"""
        with pytest.raises(UnreachableError, match="exited with"):
            run_file(a_file(tmp_path, "h.py", source))
        assert other.poll() is None


_RUN = """
import sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from qslurm.local.run_file import run_file
run_file(Path(sys.argv[2]))
"""


def children(pid: int) -> list[int]:
    tasks = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(word) for task in tasks for word in task.read_text().split()]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_however_it_is_ended_no_process_and_no_file_is_left(
    tmp_path: Path, home: Path, number: signal.Signals
) -> None:
    path = a_file(tmp_path, "slow.cq", slow_circuit(24))
    environment = os.environ | {"TMPDIR": str(home)}
    process = subprocess.Popen(
        [sys.executable, "-c", _RUN, str(ROOT), str(path)], stderr=subprocess.DEVNULL, env=environment
    )
    (dispatcher,) = until(lambda: children(process.pid))
    (worker,) = until(lambda: children(dispatcher))
    until(lambda: int(Path(f"/proc/{worker}/statm").read_text().split()[1]) > 20_000)  # it is executing
    process.send_signal(number)
    process.wait(timeout=20)
    until(lambda: is_gone(worker) and is_gone(dispatcher))
    assert list(home.iterdir()) == []
