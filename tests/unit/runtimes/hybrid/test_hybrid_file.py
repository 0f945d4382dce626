from __future__ import annotations

import importlib.util
import math
import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import pytest

from qslurm.errors import CircuitError, InvalidInputError, JobFailedError, UnreachableError
from qslurm.runtimes.hybrid.hybrid_file import MODULE_NAME, check_hybrid, run_hybrid
from qslurm.runtimes.interface import BackendType, Outcome
from qslurm.runtimes.qx import simulate
from qslurm.runtimes.simulated_backend import backend_type

COIN = "version 3.0; qubit q; bit b; H q; b = measure q"


class Local:
    """A transport that executes with QX in this process."""

    def __init__(self) -> None:
        self.backend_type: BackendType = backend_type("qx", qubits=26, max_shots=10**6, default_shots=50)

    def execute(self, circuit: str, number_of_shots: int, raw_data: bool) -> Outcome:
        return simulate(circuit, number_of_shots, seed=1, raw_data=raw_data)

    def execute_many(
        self, circuits: Iterable[str], number_of_shots: int, raw_data: bool
    ) -> Iterator[Outcome]:
        return (self.execute(circuit, number_of_shots, raw_data) for circuit in circuits)


class Unreachable(Local):
    def execute(self, circuit: str, number_of_shots: int, raw_data: bool) -> Outcome:
        raise UnreachableError("The dispatcher does not answer.", hint="Try again.")


def run(source: str, *, shots: int | None = None) -> dict[str, Any]:
    return run_hybrid(source.replace("COIN", repr(COIN)), "algorithm.py", Local(), shots=shots)


# --- conventions -------------------------------------------------------------------------------------


def remarks_on(result: str) -> list[str]:
    found: list[str] = []
    source = f"import math\nnan, inf = math.nan, math.inf\ndef execute(qi): pass\ndef finalize(m): return {result}\n"
    run_hybrid(source, "algorithm.py", Local(), remark=found.append)
    return found


@pytest.mark.parametrize(
    ("result", "places"),
    [
        ("{'energy': nan}", "result['energy']"),
        ("{'trace': [1.0, inf, {'last': -inf}]}", "result['trace'][1], result['trace'][2]['last']"),
        ("{'z': complex(nan, 1.0)}", "result['z']"),
        ("{'many': [nan] * 8}", ", ".join(f"result['many'][{i}]" for i in range(5)) + " and 3 more"),
    ],
)
def test_null_in_place_of_what_json_has_no_word_for_is_remarked_on(result: str, places: str) -> None:
    assert remarks_on(result) == [f"JSON has no NaN and no infinity; replaced by null in {places}."]


def test_a_result_that_json_can_carry_needs_no_remark() -> None:
    assert remarks_on("{'energy': None, 'big': 2**80, 'text': 'nan'}") == []


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


# --- errors of the user's code -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raised", "reason"),
    [
        (
            "try:\n        {}['theta']\n    except KeyError as error:\n"
            "        raise RuntimeError('no start') from error",
            "algorithm.py:5: RuntimeError: no start, caused by KeyError: 'theta'.",
        ),
        (
            "try:\n        {}['theta']\n    except KeyError:\n        1 / 0",
            "algorithm.py:5: ZeroDivisionError: division by zero, caused by KeyError: 'theta'.",
        ),
        (
            "try:\n        {}['theta']\n    except KeyError:\n        raise RuntimeError('no start') from None",
            "algorithm.py:5: RuntimeError: no start.",
        ),
        (
            "try:\n        qi.execute_circuit('version 3.0; Foo q', 1)\n    except Exception as error:\n"
            "        raise RuntimeError('no start') from error",
            "algorithm.py:5: RuntimeError: no start, caused by qslurm.errors.CircuitError: circuit:1:14: couldn't",
        ),
        (
            "error = ValueError('odd')\n    error.add_note('look at theta')\n    raise error",
            "algorithm.py:4: ValueError: odd.",
        ),
        (
            "first, second = ValueError('first'), ValueError('second')\n    first.__cause__ = second\n"
            "    raise second from first",
            "algorithm.py:4: ValueError: second, caused by ValueError: first.",
        ),
    ],
)
def test_what_an_exception_was_raised_from_is_part_of_the_reason(raised: str, reason: str) -> None:
    with pytest.raises(JobFailedError) as caught:
        run(f"def execute(qi):\n    {raised}\ndef finalize(list_of_measurements):\n    return {{}}\n")
    assert caught.value.message.startswith(reason)


def test_the_lines_of_a_cause_come_before_those_of_what_it_caused() -> None:
    with pytest.raises(JobFailedError) as caught:
        run("""
def execute(qi):
    try:
        start()
    except KeyError as error:
        error.add_note("look at theta")
        raise RuntimeError("no start") from error

def start():
    {}["theta"]

def finalize(list_of_measurements):
    return {}
""")
    cause, _, rest = caught.value.hint.partition("KeyError: 'theta'\nlook at theta\n")
    assert "line 10, in start" in cause
    assert 'raise RuntimeError("no start") from error' in rest
    assert rest.endswith("RuntimeError: no start")


@pytest.mark.parametrize(
    "copy", ["copy.copy(qi)", "copy.deepcopy(qi)", "copy.deepcopy({'of': [qi]})['of'][0]"]
)
def test_a_copy_of_qi_executes_circuits_as_qi_does(copy: str) -> None:
    """As in a solver's state that holds it."""
    result = run(f"""
import copy
def execute(qi):
    {copy}.execute_circuit(COIN, 3)
    qi.execute_circuit(COIN, 4)
def finalize(list_of_measurements):
    return {{"shots": [sum(counts.values()) for counts in list_of_measurements]}}
""")
    assert result == {"shots": [3, 4]}


def test_an_exception_is_shown_with_the_users_lines_and_no_others() -> None:
    with pytest.raises(JobFailedError) as caught:
        run("""
import json

def execute(qi):
    prepare()

def prepare():
    json.loads("{")

def finalize(list_of_measurements):
    return {}
""")
    assert caught.value.message.startswith("algorithm.py:8: json.decoder.JSONDecodeError: ")
    assert 'json.loads("{")' in caught.value.hint
    assert "prepare()" in caught.value.hint
    assert 'File "algorithm.py", line 5' in caught.value.hint
    assert "qslurm" not in caught.value.hint
    assert "decoder.py" not in caught.value.hint


def test_an_error_while_the_file_loads_is_the_jobs_failure() -> None:
    with pytest.raises(JobFailedError, match=r"algorithm\.py:1: ModuleNotFoundError: .*no_such_module"):
        run("import no_such_module\ndef execute(qi): pass\ndef finalize(m): return {}")


@pytest.mark.parametrize("ending", ["raise SystemExit(0)", "import sys; sys.exit('enough')"])
def test_a_file_that_exits_has_no_result(ending: str) -> None:
    with pytest.raises(JobFailedError, match="exited with code"):
        run(f"def execute(qi): {ending}\ndef finalize(m): return {{}}")


def test_an_interruption_passes() -> None:
    with pytest.raises(KeyboardInterrupt):
        run("def execute(qi): raise KeyboardInterrupt\ndef finalize(m): return {}")


def test_a_wrong_circuit_keeps_its_class_and_says_who_asked_for_it() -> None:
    with pytest.raises(CircuitError, match="couldn't find instruction 'HH'") as caught:
        run(
            "def execute(qi):\n    qi.execute_circuit('version 3.0; qubit q; HH q', 1)\ndef finalize(m): pass"
        )
    assert caught.value.hint.endswith("Called in algorithm.py:2.")


def test_an_unreachable_dispatcher_is_not_the_users_fault() -> None:
    source = "def execute(qi): qi.execute_circuit('', 1)\ndef finalize(m): return {}"
    with pytest.raises(UnreachableError):
        run_hybrid(source, "algorithm.py", Unreachable())


@pytest.mark.parametrize(
    ("call", "what"), [("None, 5", "NoneType"), ("COIN, 0", "number of shots"), ("COIN, 'x'", "'x'")]
)
def test_wrong_arguments_are_explained(call: str, what: str) -> None:
    with pytest.raises(InvalidInputError, match=what):
        run(f"def execute(qi): qi.execute_circuit({call})\ndef finalize(m): return {{}}")


# --- final results -----------------------------------------------------------------------------------


def finalized(value: object) -> dict[str, Any]:
    sys.modules["value_of_this_test"] = type(sys)("value_of_this_test")
    sys.modules["value_of_this_test"].value = value  # type: ignore[attr-defined]
    try:
        return run("import value_of_this_test as v\ndef execute(qi): pass\ndef finalize(m): return v.value")
    finally:
        del sys.modules["value_of_this_test"]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (np.float64(1.5), 1.5),
        (np.float32(0.5), 0.5),
        (np.int64(7), 7),
        (np.bool_(True), True),
        (np.array([[1.0, 2.0], [3.0, math.nan]]), [[1.0, 2.0], [3.0, None]]),
        (np.array(3), 3),
        (math.inf, None),
        (1 + 2j, [1.0, 2.0]),
        (np.complex128(1j), [0.0, 1.0]),
        ((1, {2}), [1, [2]]),
        (2**70, str(2**70)),
        ("\udc80", "\\udc80"),
        (None, None),
    ],
)
def test_values_become_what_json_knows(value: object, expected: object) -> None:
    assert finalized({"value": value}) == {"value": expected}


def test_keys_become_text() -> None:
    assert finalized({1: "a", np.int64(2): "b", (3, 4): "c"}) == {"1": "a", "2": "b", "(3, 4)": "c"}


@pytest.mark.parametrize("value", [None, [1], 3.0, "done"])
def test_a_result_that_is_no_dict_is_refused(value: object) -> None:
    with pytest.raises(JobFailedError, match="instead of a dict"):
        finalized(value)


def test_a_value_that_json_can_not_carry_is_named() -> None:
    with pytest.raises(JobFailedError, match=r"type object in result\['best'\]\[1\]"):
        finalized({"best": [1, object()]})


def test_a_result_that_contains_itself_is_refused() -> None:
    endless: dict[str, object] = {}
    endless["again"] = endless
    with pytest.raises(JobFailedError, match="contains itself"):
        finalized(endless)
