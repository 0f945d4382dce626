"""The runtime `quantuminspire`: circuits by the official client, over HTTP, to a platform that has QX."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from _pytest.mark.structures import ParameterSet
from testbed.layout import CHECKOUT

from qslurm.c2.jobmanager.compute_api.runner import MeasuredCircuit
from qslurm.errors import CircuitError, ConfigError, InvalidInputError, JobFailedError, TimedOutError
from qslurm.runtimes.health import Health, TryLaterError
from qslurm.runtimes.interface import Outcome
from qslurm.runtimes.machine_result import InvalidReplyError
from qslurm.runtimes.plugin import find_plugin, read_options
from qslurm.runtimes.quantum_inspire import job_runner
from qslurm.runtimes.quantum_inspire.quantum_inspire_runtime import QuantumInspireRuntime, health_of
from tests.unit.runtimes.quantum_inspire.platform import BACKEND, REFRESH, TOKEN, Platform
from tests.unit.waiting import until

BELL = "version 3.0; qubit[2] q; bit[2] b; H q[0]; CNOT q[0], q[1]; b = measure q"
ENQUEUE = r"PATCH /batch_jobs/\d+/enqueue"
FOR_EVER = 10**9

Make = Callable[..., QuantumInspireRuntime]

LONG = pytest.mark.slurm  # it needs none, but takes as long as if it did


def each_with_each(requests: list[str], faults: list[str]) -> list[ParameterSet]:
    """All pairs; in every run each fault of some request, in turn."""
    return [
        pytest.param(request, what, marks=[] if (of + number) % len(requests) == 0 else LONG)
        for of, request in enumerate(requests)
        for number, what in enumerate(faults)
    ]


def execute(
    runtime: QuantumInspireRuntime, circuit: str = BELL, shots: int = 100, *, raw_data: bool = False
) -> Outcome:
    return runtime.execute(circuit, shots, seed=None, raw_data=raw_data, file="bell.cq")


def execute_at_last(runtime: QuantumInspireRuntime) -> Outcome:
    """As the dispatcher does it: a circuit that was not begun is given back when the platform is ready again."""
    while True:
        try:
            return execute(runtime)
        except TryLaterError as error:
            assert not error.begun
        until(lambda: runtime.attend().ready)


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


# --- a bad link -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("request_", "what"),
    each_with_each(["POST /commits", "POST /jobs"], ["lost", "cut", "rubbish", "503", "401", "huge"]),
)
def test_what_breaks_off_before_the_beginning_is_done_again_and_executed_once(
    runtime: QuantumInspireRuntime, platform: Platform, request_: str, what: str
) -> None:
    platform.goes_wrong(request_, what)
    with pytest.raises(TryLaterError) as caught:
        execute(runtime)
    assert not caught.value.begun
    assert platform.runner.executed == []
    assert execute_at_last(runtime).shots_done == 100
    assert platform.runner.executed == [len(platform.runner.begun)] == [1]


@pytest.mark.parametrize("request_", ["GET /projects", "POST /algorithms", "GET /languages"])
def test_what_breaks_off_the_first_time_is_done_again(make: Make, platform: Platform, request_: str) -> None:
    platform.goes_wrong(request_, "cut")
    assert execute_at_last(make(project=f"for {request_}")).shots_done == 100
    assert platform.runner.executed == [1]


@pytest.mark.parametrize("what", ["lost", "cut", "rubbish", "503"])
def test_a_beginning_of_which_nobody_knows_is_looked_up(
    runtime: QuantumInspireRuntime, platform: Platform, what: str
) -> None:
    platform.goes_wrong(ENQUEUE, what)
    assert execute(runtime).shots_done == 100
    assert platform.runner.executed == [1]
    assert platform.count(ENQUEUE) == (1 if what == "cut" else 2)


@pytest.mark.parametrize(
    ("request_", "what"),
    each_with_each([r"GET /jobs/\d+", r"GET /results/job/\d+"], ["cut", "rubbish", "huge", "500", "429"]),
)
def test_a_bad_answer_while_waiting_is_asked_for_again(
    runtime: QuantumInspireRuntime, platform: Platform, request_: str, what: str
) -> None:
    platform.goes_wrong(request_, what, times=3)
    assert execute(runtime).shots_done == 100
    assert platform.runner.executed == [1]
    assert platform.count(request_) >= 4


def test_an_answer_that_never_comes_is_not_waited_for(make: Make, platform: Platform) -> None:
    runtime = make(request_timeout_s=1.0)
    platform.goes_wrong(r"GET /jobs/\d+", "silent")
    assert execute_at_last(runtime).shots_done == 100
    assert len(platform.runner.executed) == 1


def test_a_result_may_come_after_the_end(runtime: QuantumInspireRuntime, platform: Platform) -> None:
    platform.runner.silent_results = 3
    assert execute(runtime).shots_done == 100


def test_a_job_without_a_result_fails(make: Make, platform: Platform) -> None:
    platform.runner.silent_results = FOR_EVER
    with pytest.raises(JobFailedError, match="completed without a result"):
        execute_at_last(make(request_timeout_s=0.5))


def test_a_lost_outcome_is_fetched_when_the_circuit_comes_again(make: Make, platform: Platform) -> None:
    runtime = make(execute_timeout_s=0.2)
    assert execute_at_last(runtime).shots_done == 100
    platform.goes_wrong(r"GET /jobs/\d+", "503", times=FOR_EVER)
    with pytest.raises(TryLaterError, match=r"Cannot fetch .*: it answers with HTTP 503") as caught:
        execute(runtime)
    assert caught.value.begun
    platform.is_well()
    before = platform.count("POST /jobs")
    assert execute(runtime).shots_done == 100
    assert platform.count("POST /jobs") == before
    assert len(platform.runner.executed) == len(platform.runner.begun) == 2


# --- late, and cancelled ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("hold", "cancelled", "words"),
    [("planned", [1], "had not started and is cancelled"), ("running", [], "cannot be cancelled")],
)
def test_a_circuit_that_takes_too_long_is_given_up_and_cancelled_if_it_can_be(
    make: Make, platform: Platform, hold: str, cancelled: list[int], words: str
) -> None:
    platform.runner.hold = hold
    with pytest.raises(TimedOutError, match=words):
        execute(make(execute_timeout_s=0.2))
    assert platform.runner.cancelled == cancelled


_WAITS = """
import sys
sys.path.insert(0, sys.argv[1])
import msgspec
from qslurm.runtimes.plugin import BackendFacts
from qslurm.runtimes.quantum_inspire.quantum_inspire_options import QuantumInspireOptions
from qslurm.runtimes.quantum_inspire.quantum_inspire_runtime import QuantumInspireRuntime
facts = BackendFacts(name="qi", qubits=10, max_shots=10_000, default_shots=100)
runtime = QuantumInspireRuntime(facts, msgspec.json.decode(sys.argv[2], type=QuantumInspireOptions))
runtime.open()
runtime.execute(sys.argv[3], 100, seed=None, raw_data=False, file="bell.cq")
"""


@pytest.mark.parametrize(
    "number",
    [pytest.param(signal.SIGKILL, id="killed"), pytest.param(signal.SIGTERM, id="ended", marks=LONG)],
)
def test_what_nobody_waits_for_any_more_is_cancelled_there(
    credentials: Path, platform: Platform, number: signal.Signals
) -> None:
    platform.runner.hold = "planned"
    options = msgspec.json.encode(
        {"credentials": str(credentials), "backend_type": BACKEND, "poll_s": 0.05}
    ).decode()
    root = str(CHECKOUT)
    process = subprocess.Popen([sys.executable, "-c", _WAITS, root, options, BELL])
    try:
        until(lambda: platform.count(r"GET /jobs/\d+") >= 2)
    finally:
        os.kill(process.pid, number)
        process.wait()
    until(lambda: platform.runner.cancelled == [1])


# --- results that make no sense ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        {"counts": {}},
        {"counts": {"00": 101}},
        {"counts": {"00": 0, "11": 100}},
        {"counts": {"00": -1, "11": 101}},
        {"counts": {"0": 100}},
        {"counts": {"00": 50, "011": 50}},
        {"counts": {"0x": 100}},
        {"counts": {"00": 0.5, "11": 0.5}},
        {"shots_done": 0},
        {"shots_done": 101},
        {"shots_done": 10},
        {"seconds": -1.0},
    ],
    ids=str,
)
def test_a_result_that_makes_no_sense_is_none(changes: dict[str, Any]) -> None:
    assert measured_of(RESULT).counts == RESULT["counts"]
    with pytest.raises(InvalidReplyError):
        measured_of(RESULT | changes)


@pytest.mark.parametrize("raw_data", [None, [], ["00"] * 99, ["00"] * 101, ["0"] * 100], ids=repr)
def test_raw_data_that_makes_no_sense_is_none(raw_data: list[str] | None) -> None:
    good = RESULT | {"raw_data": ["00"] * 50 + ["11"] * 50}
    assert measured_of(good, raw_data=True).raw_data == good["raw_data"]
    with pytest.raises(InvalidReplyError):
        measured_of(good | {"raw_data": raw_data}, raw_data=True)


RESULT: dict[str, Any] = {"counts": {"00": 50, "11": 50}, "shots_done": 100, "seconds": 0.5, "raw_data": None}


def measured_of(found: dict[str, Any], *, raw_data: bool = False) -> job_runner.PlatformResult:
    """What is made of a result, as the official client gives it, of BELL with 100 shots."""
    result = SimpleNamespace(job_id=1, results=found["counts"], execution_time_in_seconds=found["seconds"],
                             shots_done=found["shots_done"], raw_data=found["raw_data"])  # fmt: skip
    return job_runner._measured(result, job_runner._Wanted(BELL, 100, raw_data), 2, 60.0)


@pytest.mark.parametrize("changes", [{"counts": {"00": 101}}, {"raw_data": ["00"] * 99}], ids=str)
def test_a_job_whose_result_makes_no_sense_fails(
    runtime: QuantumInspireRuntime, platform: Platform, changes: dict[str, Any]
) -> None:
    platform.runner.change = lambda measured: msgspec.structs.replace(measured, **changes)
    with pytest.raises(JobFailedError, match="invalid result"):
        execute(runtime, raw_data=True)


def test_nobody_is_charged_for_more_than_was_waited_for(
    runtime: QuantumInspireRuntime, platform: Platform
) -> None:
    platform.runner.seconds = 1e300
    began = time.monotonic()
    assert execute(runtime).seconds <= time.monotonic() - began


def test_fewer_shots_than_asked_for_are_told(runtime: QuantumInspireRuntime, platform: Platform) -> None:
    def fewer(measured: MeasuredCircuit) -> MeasuredCircuit:
        return msgspec.structs.replace(measured, counts={"00": 40, "11": 10}, shots_done=60)

    platform.runner.change = fewer
    outcome = execute(runtime)
    assert (outcome.counts, outcome.shots_requested, outcome.shots_done) == ({"00": 40, "11": 10}, 100, 60)


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
