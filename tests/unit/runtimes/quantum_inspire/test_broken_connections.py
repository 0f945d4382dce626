"""Executions by `quantuminspire` over a connection that breaks, and jobs that are given up."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from testbed.layout import CHECKOUT

from qslurm.errors import JobFailedError, TimedOutError
from qslurm.runtimes.health import TryLaterError
from qslurm.runtimes.quantum_inspire.quantum_inspire_runtime import QuantumInspireRuntime
from tests.unit.runtimes.quantum_inspire.executions import (
    BELL,
    ENQUEUE,
    FOR_EVER,
    LONG,
    Make,
    each_with_each,
    execute,
    execute_at_last,
)
from tests.unit.runtimes.quantum_inspire.platform import BACKEND, Platform
from tests.unit.waiting import until


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
