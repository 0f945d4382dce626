"""Results of the platform that cannot be right, and what is made of the others."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from qslurm.c2.jobmanager.compute_api.runner import MeasuredCircuit
from qslurm.errors import JobFailedError
from qslurm.runtimes.machine_result import InvalidReplyError
from qslurm.runtimes.quantum_inspire.job_runner import ExecutionKey, PlatformResult, checked_result
from qslurm.runtimes.quantum_inspire.quantum_inspire_runtime import QuantumInspireRuntime
from tests.unit.runtimes.quantum_inspire.executions import (
    BELL,
    execute,
)
from tests.unit.runtimes.quantum_inspire.platform import Platform


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


def measured_of(found: dict[str, Any], *, raw_data: bool = False) -> PlatformResult:
    """What is made of a result, as the official client gives it, of BELL with 100 shots."""
    result = SimpleNamespace(job_id=1, results=found["counts"], execution_time_in_seconds=found["seconds"],
                             shots_done=found["shots_done"], raw_data=found["raw_data"])  # fmt: skip
    return checked_result(result, ExecutionKey(BELL, 100, raw_data), 2, 60.0)


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
