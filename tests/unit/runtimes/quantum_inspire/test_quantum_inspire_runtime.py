"""The runtime `quantuminspire`: circuits by the official client, over HTTP, to a platform that has QX."""

from __future__ import annotations

import socket
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from qslurm.errors import CircuitError, ConfigError, InvalidInputError, JobFailedError
from qslurm.runtimes.health import Health, TryLaterError
from qslurm.runtimes.plugin import find_plugin, read_options
from qslurm.runtimes.quantum_inspire.quantum_inspire_runtime import QuantumInspireRuntime, health_of
from tests.unit.runtimes.quantum_inspire.executions import (
    BELL,
    ENQUEUE,
    Make,
    execute,
    execute_at_last,
)
from tests.unit.runtimes.quantum_inspire.platform import BACKEND, REFRESH, TOKEN, Platform
from tests.unit.waiting import until

# --- a circuit --------------------------------------------------------------------------------------


def test_a_circuit_is_executed_once_and_charged_by_the_platforms_clock(
    runtime: QuantumInspireRuntime, platform: Platform
) -> None:
    platform.runner.seconds = 0.000_001
    outcome = execute(runtime)
    assert set(outcome.counts) == {"00", "11"}
    assert sum(outcome.counts.values()) == outcome.shots_done == outcome.shots_requested == 100
    assert outcome.seconds == 0.000_001
    assert platform.runner.executed == [1]


def test_the_platform_learns_nothing_but_the_circuit(
    runtime: QuantumInspireRuntime, platform: Platform
) -> None:
    execute(runtime)
    (spec,) = platform.runner.begun
    assert (spec.source, spec.shots, spec.raw_data, spec.name) == (BELL, 100, False, "circuit")


def test_the_project_is_found_again_by_the_next_process(make: Make, platform: Platform) -> None:
    for _ in range(2):
        execute(make(project="a project of its own"))
    assert (platform.count("POST /projects"), platform.count("POST /algorithms")) == (1, 1)
    assert platform.runner.executed == [1, 2]


def test_raw_data_comes_shot_by_shot(runtime: QuantumInspireRuntime) -> None:
    outcome = execute(runtime, shots=20, raw_data=True)
    assert outcome.raw_data is not None
    assert len(outcome.raw_data) == 20
    assert set(outcome.raw_data) <= {"00", "11"}


@pytest.mark.parametrize("by_qubit", [False, True], ids=["by bit", "by qubit"])
@pytest.mark.parametrize(
    ("circuit", "key"),
    [
        ("version 3.0; qubit[3] q; bit b; X q[2]; b = measure q[2]", "1"),
        ("version 3.0; qubit[3] q; bit[2] b; X q[2]; b[1] = measure q[2]; b[0] = measure q[0]", "10"),
        ("version 3.0; qubit[2] q; bit[2] b; X q[0]; b[0, 1] = measure q[1, 0]", "10"),
        ("version 3.0; qubit a; qubit c; bit[2] b; X a; b[1] = measure a; X a; b[0] = measure a", "10"),
        ("version 3.0\nqubit[2] q\nbit[4] b\nX q[1] // and\nb[2:3] = measure q\n", "1000"),
        ("version 3.0; qubit by_qubit; bit[2] b; X by_qubit; b[1] = measure by_qubit", "10"),
        ("version 1.0\nqubits 2\nX q[1]\nmeasure_all", "10"),
    ],
)
def test_results_are_by_classical_bit_however_the_platform_keys_them(
    runtime: QuantumInspireRuntime, platform: Platform, circuit: str, key: str, by_qubit: bool
) -> None:
    platform.runner.by_qubit = by_qubit
    assert execute(runtime, circuit).counts == {key: 100}


def test_what_the_platform_cannot_do_is_not_sent(runtime: QuantumInspireRuntime, platform: Platform) -> None:
    runtime.attend()
    with pytest.raises(CircuitError, match="11 qubits; qi has 10"):
        execute(runtime, "version 3.0; qubit[11] q; bit b; b = measure q[0]")
    with pytest.raises(InvalidInputError, match="at most 4096 shots"):
        execute(runtime, shots=5000)
    assert platform.count("POST .*") == 0


# --- refused and failed -----------------------------------------------------------------------------


@pytest.mark.parametrize("request_", ["POST /files", "POST /jobs", ENQUEUE])
def test_a_refused_circuit_fails_with_the_platforms_words(
    runtime: QuantumInspireRuntime, platform: Platform, request_: str
) -> None:
    platform.goes_wrong(request_, "422", detail="no gate FOO\x07 here.")
    with pytest.raises(
        JobFailedError, match=r"^bell.cq: Quantum Inspire rejected the circuit: no gate FOO here\.$"
    ):
        execute(runtime)
    assert platform.runner.executed == []


def test_a_field_that_is_wrong_is_quoted(runtime: QuantumInspireRuntime, platform: Platform) -> None:
    platform.runner.state = "idle"
    runtime.attend()
    long = "version 3.0; qubit[2] q; bit[2] b; " + "X q[0]; " * 600_000 + "b = measure q"
    with pytest.raises((JobFailedError, CircuitError)):
        execute(runtime, long)  # longer than the server reads
    assert platform.runner.executed == []


def test_a_failed_job_fails_with_its_message(runtime: QuantumInspireRuntime, platform: Platform) -> None:
    platform.runner.fails = "the fridge is warm"
    with pytest.raises(JobFailedError, match=r"was failed: the fridge is warm \(trace 1\)\.$"):
        execute(runtime)


def test_a_job_that_somebody_cancelled_there_says_so(
    runtime: QuantumInspireRuntime, platform: Platform
) -> None:
    platform.runner.hold = "cancelled"
    with pytest.raises(JobFailedError, match="was cancelled: no reason given"):
        execute(runtime)


@pytest.mark.parametrize("request_", ["POST /commits", "POST /batch_jobs", ENQUEUE])
def test_a_full_queue_is_not_the_circuits_fault(
    runtime: QuantumInspireRuntime, platform: Platform, request_: str
) -> None:
    platform.goes_wrong(request_, "409", detail="you have too many")
    with pytest.raises(TryLaterError, match="you have too many") as caught:
        execute(runtime)
    assert not caught.value.begun
    assert execute_at_last(runtime).counts
    assert platform.runner.executed == [1]


# --- how it is --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("state", "health"),
    [
        ("idle", Health("idle")),
        ("executing", Health("executing")),
        ("calibrating", Health("calibrating", f"{BACKEND} is calibrating at Quantum Inspire: until noon")),
        ("benchmarking", Health("calibrating", f"{BACKEND} is benchmarking at Quantum Inspire: until noon")),
        ("offline", Health("offline", f"{BACKEND} is offline at Quantum Inspire: until noon")),
    ],
)
def test_the_platforms_status_is_the_backends_health(
    runtime: QuantumInspireRuntime, platform: Platform, state: str, health: Health
) -> None:
    platform.runner.state, platform.runner.reason = state, "until noon."
    until(lambda: runtime.attend() == health)


def test_a_backend_that_is_switched_off_is_offline() -> None:
    theirs = SimpleNamespace(name="Tuna", enabled=False, messages={}, status=SimpleNamespace(value="idle"))
    assert health_of(theirs) == Health("offline", "Tuna is switched off at Quantum Inspire")


def test_jobs_are_told_what_the_platform_says_of_itself(runtime: QuantumInspireRuntime) -> None:
    known = runtime.backend_type
    assert (known.name, known.description, known.nqubits, known.max_number_of_shots) == (
        "qi",
        BACKEND,
        10,
        4096,
    )
    assert "CNOT" in known.gateset


def test_a_platform_that_is_away_comes_back(make: Make, platform: Platform) -> None:
    runtime = make()
    platform.goes_wrong(r"GET /backend_types/.*", "503", times=2)
    assert runtime.attend() == Health("offline", "Quantum Inspire failed: it answers with HTTP 503")
    until(lambda: runtime.attend() == Health("idle"))


def test_a_platform_that_is_not_there_is_no_error(make: Make, platform: Platform, credentials: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        gone = nobody.getsockname()[1]
    credentials.write_text(credentials.read_text().replace(str(platform.port), str(gone)))
    runtime = make()
    health = runtime.attend()
    assert health.state == "offline"
    assert "cannot connect" in health.reason
    with pytest.raises(TryLaterError):
        execute(runtime)


def test_a_backend_type_that_does_not_exist_names_those_that_do(make: Make) -> None:
    assert make(backend_type="Tuna-99").attend() == Health(
        "offline", f"Quantum Inspire failed: unknown backend type 'Tuna-99'. Available: {BACKEND}"
    )


# --- what operators write ---------------------------------------------------------------------------


def test_it_is_found_by_its_name_and_typos_are_refused() -> None:
    plugin = find_plugin("quantuminspire")
    with pytest.raises(ConfigError, match="Did you mean 'backend_type'"):
        read_options(plugin, {"credentials": "/x", "backendtype": "y"}, "backend 'tuna'")
    for wrong in ({"credentials": "x"}, {"backend_type": ""}, {"poll_s": 0}):
        with pytest.raises(ConfigError):
            read_options(plugin, {"credentials": "/x", "backend_type": "y", **wrong}, "backend 'tuna'")


def test_without_the_official_client_it_says_what_to_install(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "compute_api_client", None)
    with pytest.raises(ConfigError, match="official client is not installed") as caught:
        make()
    assert "qslurm[quantum-inspire]" in caught.value.hint


@pytest.mark.parametrize("what", ["401", "cut", "rubbish", "422", "503"])
def test_no_token_is_ever_told(
    runtime: QuantumInspireRuntime, platform: Platform, what: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    platform.goes_wrong("POST /jobs", what)
    with pytest.raises((TryLaterError, JobFailedError)) as caught:
        execute(runtime)
    told = caplog.text + "".join(_all_of(caught.value)) + runtime.attend().reason
    assert TOKEN not in told
    assert REFRESH not in told


def _all_of(error: BaseException | None) -> list[str]:
    if error is None:
        return []
    return [str(error), repr(error), *_all_of(error.__cause__), *_all_of(error.__context__)]
