from __future__ import annotations

import importlib.util
import sys
from collections.abc import Mapping

import pytest

from qslurm.errors import CircuitError, InvalidInputError
from qslurm.runtimes.hybrid.hybrid_file import MODULE_NAME, check_hybrid
from tests.unit.runtimes.hybrid.hybrid_runs import Local, run


def test_the_blocking_convention_runs_and_finalize_sees_every_measurement() -> None:
    result = run("""
def execute(qi):
    for shots in (10, 20):
        done = qi.execute_circuit(COIN, shots)
        assert done.shots_requested == done.shots_done == shots and done.raw_data is None
        assert qi.results[-1] == done.results

def finalize(list_of_measurements):
    return {"shots": [sum(counts.values()) for counts in list_of_measurements]}
""")
    assert result == {"shots": [10, 20]}


def test_the_async_convention_runs() -> None:
    result = run("""
import asyncio

async def execute(qi):
    first = await qi.execute_circuit(COIN, 3)
    more = await asyncio.gather(qi.execute_circuit(COIN, 4), qi.execute_circuit(COIN, number_of_shots=5))
    qi.seen = [first.shots_done] + [each.shots_done for each in more]

def finalize(list_of_measurements):
    return {"shots": [sum(counts.values()) for counts in list_of_measurements]}
""")
    assert result == {"shots": [3, 4, 5]}


def test_many_circuits_at_once_are_what_a_loop_over_them_gives() -> None:
    result = run("""
def execute(qi):
    done = qi.execute_circuits((COIN for _ in range(3)), 5, raw_data_enabled=True)
    assert [each.results for each in done] == qi.results
    assert all(len(each.raw_data) == each.shots_done == 5 for each in done)
    assert qi.execute_circuits([]) == []
    assert qi.execute_circuits([COIN])[0].shots_done == 50

def finalize(list_of_measurements):
    return {"shots": [sum(counts.values()) for counts in list_of_measurements]}
""")
    assert result == {"shots": [5, 5, 5, 50]}


def test_many_circuits_can_be_awaited_too() -> None:
    result = run("""
async def execute(qi):
    qi.seen = [each.shots_done for each in await qi.execute_circuits([COIN, COIN], 5)]
def finalize(list_of_measurements):
    return {"n": len(list_of_measurements)}
""")
    assert result == {"n": 2}


@pytest.mark.parametrize("circuits", ["COIN", "[COIN, None]", "[COIN, b'version 3.0']"])
def test_what_is_no_list_of_circuits_is_refused_before_anything_runs(circuits: str) -> None:
    source = f"""
def execute(qi):
    try:
        qi.execute_circuits({circuits}, 5)
    finally:
        assert qi.results == []
def finalize(list_of_measurements): return {{}}
"""
    with pytest.raises(InvalidInputError, match="circuit"):
        run(source)


def test_the_first_circuit_of_many_that_cannot_be_executed_is_the_error_and_those_before_it_count() -> None:
    result = run("""
def execute(qi):
    try:
        qi.execute_circuits([COIN, COIN, "version 3.0; nonsense", COIN], 5)
    except Exception as error:
        qi.results.append({type(error).__name__: 0})
def finalize(list_of_measurements):
    return {"m": [sum(counts.values()) for counts in list_of_measurements], "e": list(list_of_measurements[-1])}
""")
    assert result == {"m": [5, 5, 0], "e": ["CircuitError"]}


def test_circuits_in_older_cqasm_run() -> None:
    result = run("""
def execute(qi):
    qi.execute_circuit("version 1.0; qubits 2; X q[1]; measure_all", 5)
def finalize(list_of_measurements):
    return list_of_measurements[0]
""")
    assert result == {"10": 5}


@pytest.mark.parametrize("shots", [10**12, 10**30])
def test_shots_that_no_backend_does_are_refused(shots: int) -> None:
    with pytest.raises(InvalidInputError, match=f"{shots} shots exceed"):
        run(f"def execute(qi): qi.execute_circuit(COIN, {shots})\ndef finalize(m): return {{}}")


def test_65_qubits_are_refused_with_the_line_of_the_file_that_asked_for_them() -> None:
    circuit = "version 3.0; qubit[65] q; bit b; b = measure q[0]"
    with pytest.raises(CircuitError, match=r"65 qubits.*Called in algorithm\.py:3") as caught:
        run(f"\ndef execute(qi):\n qi.execute_circuit({circuit!r}, 1)\ndef finalize(m): return {{}}")
    assert caught.value.kind == "invalid_circuit"


def test_returning_from_execute_ends_the_algorithm_whenever_it_likes() -> None:
    result = run("""
def execute(qi):
    for step in range(100):
        done = qi.execute_circuit(COIN, 5)
        if step == 2:
            return done  # good enough; what is returned does not matter
def finalize(list_of_measurements):
    return {"n": len(list_of_measurements)}
""")
    assert result == {"n": 3}


def test_a_life_cycle_that_has_no_first_circuit_ends_at_once() -> None:
    result = run("""
def initialize(): return None
def execute(results, shots_requested, shots_done): raise AssertionError
def finalize(list_of_measurements): return {"n": len(list_of_measurements)}
""")
    assert result == {"n": 0}


def test_a_file_that_catches_its_own_exit_goes_on() -> None:
    result = run("""
import sys
def execute(qi):
    try:
        sys.exit(3)
    except SystemExit:
        qi.execute_circuit(COIN, 5)
def finalize(list_of_measurements): return {"n": len(list_of_measurements)}
""")
    assert result == {"n": 1}


def test_the_life_cycle_runs_until_execute_has_no_circuit_left() -> None:
    result = run(
        """
rounds = []

def initialize():
    return COIN

def execute(results, shots_requested, shots_done):
    rounds.append([sum(results.values()), shots_requested, shots_done])
    return COIN if len(rounds) < 3 else None

def finalize(list_of_measurements):
    return {"rounds": rounds, "measurements": len(list_of_measurements)}
""",
        shots=7,
    )
    assert result == {"rounds": [[7, 7, 7]] * 3, "measurements": 3}


def test_the_life_cycle_may_say_how_many_shots_it_wants() -> None:
    result = run("""
def initialize():
    return {"circuit": COIN, "shots_requested": 11}

def execute(results, shots_requested, shots_done):
    return {"circuit": COIN, "shots_requested": 12} if shots_requested == 11 else None

def finalize(list_of_measurements):
    return {"shots": [sum(counts.values()) for counts in list_of_measurements]}
""")
    assert result == {"shots": [11, 12]}


def test_what_qiskits_hybrid_backend_asks_for_is_there() -> None:
    """It passes None for raw data, numpy's integers for shots, and reads the backend type as a mapping."""
    result = run("""
import numpy as np
def execute(qi):
    qi.execute_circuit(COIN, np.int64(5), raw_data_enabled=None)
    done = qi.execute_circuit(COIN, 4, raw_data_enabled=True)
    global found
    found = {"raw": done.raw_data, "backend": dict(qi.backend_type), "name": qi.backend_type.name}
def finalize(list_of_measurements):
    return found
""")
    assert len(result["raw"]) == 4
    assert result["backend"]["nqubits"] == 26
    assert result["name"] == "qx"
    assert isinstance(Local().backend_type, Mapping)


def test_the_official_model_accepts_the_backend_type() -> None:
    models = pytest.importorskip("compute_api_client")
    assert models.BackendType.model_validate(Local().backend_type).nqubits == 26


def test_the_import_that_files_for_quantum_inspire_begin_with_works() -> None:
    result = run("""
from __future__ import annotations
from typing import Any, Dict, List
from qi2_shared.hybrid.quantum_interface import ExecuteCircuitResult, QuantumInterface

def execute(qi: QuantumInterface) -> None:
    result: ExecuteCircuitResult = qi.execute_circuit(COIN, 2)

def finalize(list_of_measurements: List[Dict[str, Any]]) -> Dict[str, Any]:
    return {"n": len(list_of_measurements)}

if __name__ == "__main__":
    raise SystemExit("this is for debugging by hand")
""")
    assert result == {"n": 1}
    assert "qi2_shared" not in sys.modules or importlib.util.find_spec("qi2_shared") is not None


def test_the_imports_of_older_files_work() -> None:
    result = run("""
from quantuminspire.sdk.models.circuit import Circuit
from quantuminspire.util.api.local_backend import LocalBackend
from quantuminspire.util.api.quantum_interface import QuantumInterface
import quantuminspire.sdk.quantum_interface

def execute(qi: QuantumInterface) -> None:
    assert isinstance(qi, quantuminspire.sdk.quantum_interface.QuantumInterface)
    qi.execute_circuit(COIN, 2)

def finalize(list_of_measurements):
    return {"n": len(list_of_measurements)}

if __name__ == "__main__":
    print(execute(QuantumInterface(LocalBackend())))
""")
    assert result == {"n": 1}
    assert "quantuminspire.sdk" not in sys.modules


def test_dataclasses_and_pickle_find_the_module() -> None:
    result = run("""
from __future__ import annotations
import pickle
from dataclasses import dataclass

@dataclass
class Point:
    x: float

def execute(qi):
    assert pickle.loads(pickle.dumps(Point(1.0))) == Point(1.0)

def finalize(list_of_measurements):
    return {"name": __name__, "file": __file__}
""")
    assert result["name"] == MODULE_NAME
    assert result["file"].endswith("/algorithm.py")
    assert MODULE_NAME not in sys.modules


# --- the static check --------------------------------------------------------------------------------


def test_a_syntax_error_is_shown_with_line_and_column() -> None:
    with pytest.raises(InvalidInputError, match=r"vqe\.py:2:9: "):
        check_hybrid("def execute(qi):\n    x = (1\n", "vqe.py")


@pytest.mark.parametrize(
    ("source", "missing"),
    [
        ("", "empty"),
        ("x = 1", "'execute'"),
        ("def execute(qi): pass", "'finalize'"),
        ("def finalize(m): pass\nclass A:\n    def execute(self, qi): pass", "'execute'"),
        ("def execute(): pass\ndef finalize(m): pass", r"execute\(qi\)"),
        ("def execute(qi): pass\ndef finalize(m): pass\ndef initialize(): pass", "shots_requested"),
        (
            "def execute(qi): pass\0",
            "can't read|null bytes",
        ),  # ends in one error or another, by Python's version
    ],
)
def test_a_file_that_is_no_hybrid_algorithm_is_refused_with_an_example(source: str, missing: str) -> None:
    with pytest.raises(InvalidInputError, match=missing) as caught:
        check_hybrid(source, "vqe.py")
    assert caught.value.hint


@pytest.mark.parametrize(
    "source",
    [
        "from library import execute, finalize",
        "from library import *",
        "execute = lambda qi: None\nfinalize = dict",
        "try:\n    def execute(qi): pass\nexcept ImportError:\n    pass\nif True:\n    def finalize(m): pass",
        "async def execute(qi, *, verbose=False): pass\ndef finalize(m): pass",
        "def execute(*args): pass\ndef finalize(m): pass",
    ],
)
def test_functions_may_come_about_in_any_way(source: str) -> None:
    check_hybrid(source, "vqe.py")


def test_checking_runs_nothing() -> None:
    check_hybrid("raise SystemExit\ndef execute(qi): pass\ndef finalize(m): pass", "vqe.py")
