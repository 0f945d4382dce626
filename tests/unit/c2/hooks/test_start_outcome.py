"""How a start of a job ended: each line of the measured table, and what follows for the dispatcher."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qslurm.c2.hooks.start_outcome import ending_state, finish_of
from qslurm.protocol.messages import Finish
from qslurm.reason_codes import END_UNKNOWN, ReasonCode
from qslurm.slurm.job_info import JobInfo

NOW = 1_000_000.0


def completing(
    *, code: int = 0, signal: int = 0, reason: str = "None", restart: int = 0, end: float | None = NOW
) -> JobInfo:
    return JobInfo(
        job_id=7,
        state="COMPLETING",
        reason=reason,
        restart_count=restart,
        status=code * 256 + signal,
        end=int(end or 0),
    )


@pytest.mark.parametrize(
    ("job", "state"),
    [
        (completing(), "COMPLETED"),
        (completing(code=3, reason="NonZeroExitCode"), "FAILED"),
        (completing(code=3), "CANCELLED"),
        (completing(signal=15, reason="JobLaunchFailure"), "FAILED"),
        (completing(signal=15), "CANCELLED"),
        (completing(signal=9), "CANCELLED"),
        (completing(signal=15, reason="TimeLimit"), "TIMEOUT"),
        (completing(signal=9, reason="OutOfMemory"), "OUT_OF_MEMORY"),
        (completing(signal=15, reason="NodeDown"), "NODE_FAIL"),
    ],
)
def test_a_completing_job_shows_how_it_ended(job: JobInfo, state: str) -> None:
    assert ending_state(job) == state
    finish = finish_of(7, 0, "key", job, NOW)
    assert finish is not None
    assert (finish.state, finish.restart, finish.key) == (state, 0, "key")


@pytest.mark.parametrize("end", [None, NOW + 300])
def test_after_a_requeue_the_start_before_is_over(end: float | None) -> None:
    finish = finish_of(7, 1, "", completing(restart=1, end=end), NOW)
    assert finish == Finish(job_id=7, restart=0, state="REQUEUED")


def test_an_exit_code_is_told_without_the_signal() -> None:
    finish = finish_of(7, 0, "", completing(code=3, reason="NonZeroExitCode"), NOW)
    assert finish == Finish(
        job_id=7, restart=0, state="FAILED", exit_code=3, reason="NonZeroExitCode", ended_at=NOW
    )


@pytest.mark.parametrize(
    ("job", "reason"),
    [
        (completing(signal=11, reason="JobLaunchFailure"), "RaisedSignal:11"),
        (completing(signal=139, reason="JobLaunchFailure"), "RaisedSignal:11(core)"),
        (
            completing(signal=11, reason="RaisedSignal:11(Segmentation_fault)"),
            "RaisedSignal:11(Segmentation_fault)",
        ),
        (completing(code=1, reason="JobLaunchFailure"), "JobLaunchFailure"),
        (completing(signal=15, reason="TimeLimit"), "TimeLimit"),
    ],
)
def test_a_signal_is_told_and_not_called_a_launch_that_went_wrong(job: JobInfo, reason: str) -> None:
    finish = finish_of(7, 0, "", job, NOW)
    assert finish is not None
    assert finish.reason == reason


def test_a_job_that_is_back_in_the_queue_was_requeued() -> None:
    job = JobInfo(job_id=7, state="PENDING", restart_count=2)
    assert finish_of(7, 2, "", job, NOW) == Finish(job_id=7, restart=1, state="REQUEUED")


def test_a_job_that_has_started_again_was_requeued() -> None:
    job = JobInfo(job_id=7, state="RUNNING", restart_count=1)
    assert finish_of(7, 1, "", job, NOW) == Finish(job_id=7, restart=0, state="REQUEUED")
    assert finish_of(7, 0, "", job, NOW) == Finish(job_id=7, restart=0, state="REQUEUED")


def test_a_job_slurm_does_not_know_is_left_open() -> None:
    assert finish_of(7, 0, "", None, NOW) is None


@given(
    state=st.sampled_from(
        ["PENDING", "RUNNING", "COMPLETING", "COMPLETED", "FAILED", "CANCELLED", "TIMEOUT"]
    ),
    hook=st.integers(0, 3),
    seen=st.integers(0, 3),
    code=st.integers(0, 65535),
    end=st.none() | st.floats(NOW - 10, NOW + 10),
)
def test_an_end_never_belongs_to_a_later_start_than_the_hook_ran_for(
    state: str, hook: int, seen: int, code: int, end: float | None
) -> None:
    job = JobInfo(job_id=7, state=state, restart_count=seen, status=code, end=int(end or 0))
    finish = finish_of(7, hook, "", job, NOW)
    assert finish is not None
    assert 0 <= finish.restart <= hook
    assert finish.state not in {"COMPLETING", "RUNNING", "PENDING"}


@pytest.mark.parametrize("state", ["PENDING", "RUNNING"])
def test_a_first_start_that_ended_and_is_to_come_again_was_forgotten_and_not_requeued(state: str) -> None:
    finish = finish_of(7, 0, "key", JobInfo(job_id=7, state=state), NOW)
    assert finish == Finish(
        job_id=7,
        restart=0,
        state="FAILED",
        reason=END_UNKNOWN,
        reason_code=ReasonCode.END_UNKNOWN,
        key="key",
    )
