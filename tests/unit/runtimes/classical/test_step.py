"""A job step in a process of its own, with a real dispatcher and real quantum runtimes."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path

import pytest

from qslurm.c2.jobmanager.documents import result_document
from qslurm.runtimes.classical.dispatcher_session import DispatcherSession
from qslurm.runtimes.hybrid.hybrid_file import run_hybrid
from tests.unit.c2.dispatcher.running import BELL, Running, circuit_job, hybrid_job
from tests.unit.runtimes.classical.step_processes import UID, begin, end
from tests.unit.waiting import until


def test_a_circuit_jobs_step_prints_the_counts_as_a_table(shared: Running) -> None:
    circuit = "version 3.0; qubit[2] q; bit[2] b; X q[0]; b = measure q"
    shared.ask(circuit_job(1, circuit, uid=UID, shots=256))
    assert end(begin(shared, 1)) == (0, "01  256  100.00%\n256 shots\n", "")


def test_a_hybrid_jobs_step_prints_what_the_file_prints_and_then_the_final_result(shared: Running) -> None:
    source = f"""
def execute(qi):
    for shots in (10, 20):
        print("asking", qi.backend_type.name)
        done = qi.execute_circuit({BELL!r}, shots)
        print(sum(done.results.values()), flush=True)
def finalize(measurements):
    return {{"n": len(measurements)}}
"""
    shared.ask(hybrid_job(2, source, uid=UID))
    status, out, err = end(begin(shared, 2))
    assert (status, err) == (0, "")
    assert out.splitlines()[:4] == ["asking qx", "10", "asking qx", "20"]
    assert json.loads(out.splitlines()[-1]) == {"n": 2}
    task = shared.reader().task("a", 2)
    assert task is not None
    assert (task.state, shared.final_result(task), task.executions, task.shots) == (
        "finished",
        {"n": 2},
        2,
        30,
    )


def test_a_bad_circuit_can_be_caught_by_the_users_code(shared: Running) -> None:
    source = f"""
def execute(qi):
    try:
        qi.execute_circuit("version 3.0; nonsense", 10)
    except Exception as error:
        print(type(error).__name__)
    qi.execute_circuit({BELL!r}, 10)
def finalize(measurements):
    return {{"n": len(measurements)}}
"""
    shared.ask(hybrid_job(4, source, uid=UID))
    status, out, _ = end(begin(shared, 4))
    assert status == 0
    assert out.splitlines()[0] == "CircuitError"


def numbered(number: int) -> str:
    """A circuit of six qubits that measures this number."""
    flips = "".join(f"X q[{i}]; " for i in range(6) if number >> i & 1)
    return f"version 3.0; qubit[6] q; bit[6] b; {flips}b = measure q"


def assert_in_order(shared: Running, job: int, source: str, *, executions: int, shots: int) -> None:
    """The job's final result has the numbers of its circuits in their order, and all are accounted."""
    shared.ask(hybrid_job(job, source, uid=UID))
    status, out, _ = end(begin(shared, job))
    assert (status, json.loads(out)) == (0, {"order": list(range(executions))})
    task = shared.reader().task("a", job)
    assert task is not None
    assert (task.state, task.executions, task.shots) == ("finished", executions, shots)


def test_many_circuits_come_back_in_order_however_many_they_are(shared: Running) -> None:
    source = f"""
def execute(qi):
    done = qi.execute_circuits({[numbered(i) for i in range(50)]!r}, 3)
    qi.results.append([int(next(iter(each.results)), 2) for each in done])
def finalize(measurements):
    return {{"order": measurements[-1]}}
"""
    assert_in_order(shared, 120, source, executions=50, shots=150)


def test_one_by_one_and_many_at_once_can_take_turns(shared: Running) -> None:
    circuits = [numbered(i) for i in range(40)]
    source = f"""
circuits = {circuits!r}
def execute(qi):
    done = [qi.execute_circuit(circuit, 2) for circuit in circuits[:10]]
    done += qi.execute_circuits(circuits[10:30], 2)
    done += [qi.execute_circuit(circuit, 2) for circuit in circuits[30:]]
    qi.results.append([int(next(iter(each.results)), 2) for each in done])
def finalize(measurements):
    return {{"order": measurements[-1]}}
"""
    assert_in_order(shared, 128, source, executions=40, shots=80)


def test_after_a_bad_circuit_among_many_nothing_is_left_under_way(shared: Running) -> None:
    circuits = [numbered(i) for i in range(40)]
    circuits[2] = "version 3.0; nonsense"
    source = f"""
def execute(qi):
    try:
        qi.execute_circuits({circuits!r}, 3)
    except Exception as error:
        print(type(error).__name__, len(qi.results))
    qi.execute_circuits({circuits[3:]!r}, 3)
def finalize(measurements):
    return {{"n": len(measurements)}}
"""
    shared.ask(hybrid_job(121, source, uid=UID))
    status, out, _ = end(begin(shared, 121))
    assert status == 0
    assert out.splitlines() == ["CircuitError 2", '{"n":39}']


def test_a_file_that_executes_nothing_finishes_and_its_result_says_so(shared: Running) -> None:
    shared.ask(hybrid_job(122, "def execute(qi): pass\ndef finalize(m): return {'n': len(m)}\n", uid=UID))
    status, out, err = end(begin(shared, 122))
    assert (status, json.loads(out)) == (0, {"n": 0})
    assert "no circuit" in err
    task = shared.reader().task("a", 122)
    assert task is not None
    assert (task.state, task.reason) == ("finished", "The hybrid file executed no circuit.")


def test_a_remark_on_a_result_comes_to_the_job_s_log_and_into_its_document(shared: Running) -> None:
    source = "def execute(qi): pass\ndef finalize(m): return {'energy': float('nan')}\n"
    shared.ask(hybrid_job(136, source, uid=UID))
    status, _, err = end(begin(shared, 136))
    remark = "JSON has no NaN and no infinity; replaced by null in result['energy']."
    assert (status, remark in err) == (0, True)
    reader = shared.reader()
    task = reader.task("a", 136)
    assert task is not None
    (said,) = result_document(task, reader)["remarks"]
    assert said == f"{remark} The hybrid file executed no circuit."


CONVENTIONS = {
    "blocking": """
def execute(qi):
    for _ in range(3):
        qi.execute_circuit(BELL, 10)
def finalize(measured):
    return {"n": len(measured)}
""",
    "async": """
async def execute(qi):
    for _ in range(3):
        await qi.execute_circuit(BELL, 10)
async def finalize(measured):
    return {"n": len(measured)}
""",
    "life cycle": """
left = [2]
def initialize():
    return BELL
def execute(results, shots_requested, shots_done):
    left[0] -= 1
    return BELL if left[0] >= 0 else None
def finalize(measured):
    return {"n": len(measured)}
""",
}


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_each_convention_goes_by_the_dispatcher_to_its_final_result(shared: Running, convention: str) -> None:
    job_id = 140 + list(CONVENTIONS).index(convention)
    source = f"BELL = {BELL!r}\n{CONVENTIONS[convention]}"
    shared.ask(hybrid_job(job_id, source, uid=UID))
    with (
        shared.client() as client,
        closing(DispatcherSession(client, job_id, 0, say=lambda _: None)) as session,
    ):
        result = run_hybrid(source, "job.py", session, shots=10)
        session.conclude(final_result=json.dumps(result))
    task = shared.reader().task("a", job_id)
    assert task is not None
    assert (task.state, shared.final_result(task), task.executions, task.shots) == (
        "finished",
        {"n": 3},
        3,
        30,
    )


def test_outside_a_slurm_job_the_step_says_what_to_do(shared: Running) -> None:
    status, out, err = end(begin(shared, None))
    assert (status, out) == (1, "")
    assert "qslurm run" in err


def test_a_step_that_comes_before_its_job_is_admitted_waits_and_says_so(shared: Running) -> None:
    step = begin(shared, 6)
    assert step.stderr is not None
    assert "is not admitted" in step.stderr.readline()
    shared.ask(circuit_job(6, uid=UID, shots=10))
    assert end(step)[0] == 0


def test_jobs_go_on_when_the_dispatcher_is_killed_and_comes_back(home: Path) -> None:
    """One waits for its circuit, one for the first of its circuits, one has many under way."""
    one_by_one = f"""
def execute(qi):
    qi.execute_circuit({BELL!r}, 1)
    qi.execute_circuit({BELL!r}, 10)
def finalize(measurements):
    return {{"n": len(measurements)}}
"""
    many = f"""
def execute(qi):
    done = qi.execute_circuits({[numbered(i) for i in range(33)]!r}, 1)
    qi.results.append([int(next(iter(each.results)), 2) for each in done])
def finalize(measurements):
    return {{"order": measurements[-1]}}
"""
    with Running(home, workers=3) as running:
        running.ready().freeze()
        running.ask(circuit_job(7, uid=UID, shots=1))
        running.ask(hybrid_job(8, one_by_one, uid=UID))
        running.ask(hybrid_job(9, many, uid=UID))
        steps = [begin(running, job_id) for job_id in (7, 8, 9)]
        until(lambda: running.executing() == 3)
        running.kill()
        for step in steps:
            assert step.stderr is not None
            assert "does not answer" in step.stderr.readline()
        running.start()
        ended = [end(step) for step in steps]
        assert [status for status, _, _ in ended] == [0, 0, 0]
        assert ended[0][1].endswith("1 shots\n")
        assert [json.loads(out) for _, out, _ in ended[1:]] == [{"n": 2}, {"order": list(range(33))}]
        tasks = [running.reader().task("a", job_id) for job_id in (7, 8, 9)]
        assert [(task.state, task.executions, task.shots) for task in tasks if task is not None] == [
            ("finished", 1, 1),
            ("finished", 2, 11),
            ("finished", 33, 33),
        ]
