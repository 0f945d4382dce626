"""What a hybrid file's user is told when the file fails."""

from __future__ import annotations

import pytest

from qslurm.errors import CircuitError, InvalidInputError, JobFailedError, UnreachableError
from qslurm.runtimes.hybrid.hybrid_file import run_hybrid
from tests.unit.runtimes.hybrid.hybrid_runs import Unreachable, run

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
