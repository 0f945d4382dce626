"""Job steps whose file fails, is harmful, or is cancelled."""

from __future__ import annotations

import pytest

from qslurm.protocol.messages import Finish
from tests.unit.c2.dispatcher.running import BELL, Running, hybrid_job
from tests.unit.runtimes.classical.step_processes import UID, begin, end


def test_a_hybrid_file_that_fails_is_a_failed_job_with_its_reason_in_the_store(shared: Running) -> None:
    shared.ask(hybrid_job(3, "def execute(qi):\n    1 / 0\ndef finalize(m): return {}\n", uid=UID))
    status, _, err = end(begin(shared, 3))
    assert status == 1
    assert "ZeroDivisionError" in err
    task = shared.reader().task("a", 3)
    assert task is not None
    assert task.state == "failed"
    assert "ZeroDivisionError" in task.reason


@pytest.mark.parametrize(
    ("job_id", "source", "reason"),
    [
        (
            20,
            "def execute(qi): pass\ndef finalize(m): return {'x': 'y' * 9_000_000}\n",
            "8.6 MiB; the limit is 6 MiB",
        ),
        (
            21,
            "def execute(qi): raise ValueError('y' * 9_000_000)\ndef finalize(m): return {}\n",
            "ValueError",
        ),
    ],
)
def test_what_is_too_large_to_be_handed_in_fails_the_job_instead_of_hanging_it(
    shared: Running, job_id: int, source: str, reason: str
) -> None:
    shared.ask(hybrid_job(job_id, source, uid=UID))
    status, _, err = end(begin(shared, job_id))
    assert status == 1
    assert reason in err
    task = shared.reader().task("a", job_id)
    assert task is not None
    assert task.state == "failed"
    assert reason in task.reason


@pytest.mark.parametrize(
    ("job_id", "call", "reason"),
    [
        (123, "qi.execute_circuit('version 3.0; qubit[65] q; bit b; b = measure q[0]', 1)", "65 qubits"),
        (
            124,
            "qi.execute_circuit('version 1.0; qubits 65; measure_all', 1)",
            "circuit:1:14: the circuit has 65 qubits",
        ),
        (125, f"qi.execute_circuit({BELL!r}, 10**12)", "1000000000000 shots exceed"),
        (126, f"qi.execute_circuits([{BELL!r}] * 3, 10**12)", "1000000000000 shots exceed"),
    ],
)
def test_what_no_backend_can_do_fails_the_job_with_its_reason(
    shared: Running, job_id: int, call: str, reason: str
) -> None:
    source = f"def execute(qi):\n    {call}\ndef finalize(m): return {{}}\n"
    shared.ask(hybrid_job(job_id, source, uid=UID))
    status, _, err = end(begin(shared, job_id))
    assert status == 1
    assert reason in err
    task = shared.reader().task("a", job_id)
    assert task is not None
    assert task.state == "failed"
    assert reason in task.reason
    assert "job.py:2" in task.reason


def test_code_that_catches_everything_cannot_outlive_its_job(shared: Running) -> None:
    source = f"""
def execute(qi):
    while True:
        try:
            qi.execute_circuit({BELL!r}, 10)
            print("going on", flush=True)
        except BaseException:
            pass
def finalize(measurements):
    return {{}}
"""
    shared.ask(hybrid_job(127, source, uid=UID))
    step = begin(shared, 127)
    assert step.stdout is not None
    assert step.stdout.readline() == "going on\n"
    shared.ask(Finish(job_id=127, restart=0, state="CANCELLED"))
    status, _, err = end(step)
    assert status == 1
    assert "cancelled" in err
    task = shared.reader().task("a", 127)
    assert task is not None
    assert task.state == "cancelled"


@pytest.mark.parametrize(
    ("job_id", "raised", "reason"),
    [
        (130, "KeyboardInterrupt", "job.py was interrupted before it had a result."),
        (131, "GeneratorExit", "GeneratorExit"),
        (132, "SystemExit(0)", "exited with code 0"),
        (133, "BaseException('enough')", "enough"),
    ],
)
def test_whatever_a_file_raises_is_the_reason_of_its_job(
    shared: Running, job_id: int, raised: str, reason: str
) -> None:
    source = f"def execute(qi):\n    raise {raised}\ndef finalize(m): return {{}}\n"
    shared.ask(hybrid_job(job_id, source, uid=UID))
    status, _, err = end(begin(shared, job_id))
    assert status == 1
    assert reason in err
    task = shared.reader().task("a", job_id)
    assert task is not None
    assert task.state == "failed"
    assert reason in task.reason


def test_a_reason_with_bytes_that_are_no_text_is_handed_in_all_the_same(shared: Running) -> None:
    raised = "ValueError(chr(0x3b8) + chr(0xdce9))"
    shared.ask(
        hybrid_job(139, f"def execute(qi):\n    raise {raised}\ndef finalize(m): return {{}}\n", uid=UID)
    )
    assert end(begin(shared, 139))[0] == 1
    task = shared.reader().task("a", 139)
    assert task is not None
    assert "ValueError: \u03b8\N{REPLACEMENT CHARACTER}" in task.reason


def test_code_that_catches_everything_and_spoils_its_output_cannot_outlive_its_limit(shared: Running) -> None:
    source = f"""
import sys
class Stuck:
    def flush(self): raise ValueError("no")
    def write(self, text): raise ValueError("no")
def execute(qi):
    sys.stdout = sys.stderr = Stuck()
    while True:
        try:
            qi.execute_circuit({BELL!r}, 1000)
        except BaseException:
            pass
def finalize(m): return {{}}
"""
    shared.ask(hybrid_job(134, source, uid=UID, qpu_seconds=0.1))
    assert end(begin(shared, 134))[0] == 1
    task = shared.reader().task("a", 134)
    assert task is not None
    assert (task.state, task.reason) == ("timed_out", "The job has used its 0.1 QPU-seconds.")


def test_a_cancelled_job_is_not_begun(shared: Running) -> None:
    shared.ask(hybrid_job(5, "def execute(qi): print('begun')\ndef finalize(m): return {}\n", uid=UID))
    shared.ask(Finish(job_id=5, restart=0, state="CANCELLED"))
    status, out, err = end(begin(shared, 5))
    assert (status, out) == (1, "")
    assert "cancelled" in err
