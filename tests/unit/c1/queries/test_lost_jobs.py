import pytest

from qslurm.c1.queries.lost_jobs import (
    STATES,
    as_cancelled,
    as_it_ended,
    is_forgotten,
    judged,
    may_be_cancelled,
)
from qslurm.reason_codes import ReasonCode
from tests.unit.jobs import job_info


def accounted(state):
    return job_info(job_id=14, name="vqe", state=state, source="slurmdbd")


def test_only_a_job_that_slurmdbd_thinks_alive_and_slurmctld_does_not_know_is_forgotten():
    assert is_forgotten(accounted("RUNNING"))
    assert not is_forgotten(accounted("COMPLETED"))
    assert not is_forgotten(job_info(job_id=14, name="vqe", state="RUNNING", source="slurmctld"))


@pytest.mark.parametrize(("task", "state"), STATES.items())
def test_a_forgotten_job_is_as_the_platform_has_it(task, state):
    assert judged(accounted("PENDING"), {"state": task}).state == state


def test_a_forgotten_job_that_the_platform_never_saw_has_failed_and_says_why():
    job = judged(accounted("PENDING"), {})
    assert job.outcome == "failed"
    assert "submit it again" in job.why


def test_without_the_platform_nothing_is_made_up():
    assert judged(accounted("PENDING"), None) == accounted("PENDING")


@pytest.mark.parametrize(
    ("platform", "state"),
    [
        ({"state": "finished", "slurm_state": "COMPLETED"}, "COMPLETED"),
        ({"state": "finished", "slurm_state": "CANCELLED"}, "CANCELLED"),  # its circuit was ready before
        ({"state": "failed", "slurm_state": "FAILED"}, "FAILED"),
        ({"state": "failed", "slurm_state": "CANCELLED", "reason_code": ReasonCode.END_UNKNOWN}, "FAILED"),
        (
            {"state": "failed", "slurm_state": "CANCELLED", "reason": "the circuit's", "reason_code": ""},
            "CANCELLED",
        ),
        ({"state": "timed_out", "slurm_state": "TIMEOUT"}, "TIMEOUT"),
        ({"state": "cancelled", "slurm_state": "CANCELLED"}, "CANCELLED"),
        ({"state": "running", "slurm_state": ""}, "CANCELLED"),
        ({}, "CANCELLED"),
        (None, "CANCELLED"),
    ],
)
def test_a_job_that_had_ended_before_it_was_cancelled_is_as_it_ended(platform, state):
    assert as_it_ended(accounted("CANCELLED"), platform).state == state


def completed(kind="script", end=1002):
    return job_info(
        job_id=14, state="COMPLETED", start=1000, end=end, comment=f"qslurm key=a kind={kind} backend=qx"
    )


def test_a_script_that_completed_at_once_is_cancelled_if_the_platform_says_so():
    assert may_be_cancelled(completed())
    assert not may_be_cancelled(completed(end=1060))
    assert not may_be_cancelled(completed(kind="circuit"))
    assert as_cancelled(completed(), {"state": "cancelled"}).outcome == "cancelled"
    for platform in ({"state": "finished"}, {}, None):
        assert as_cancelled(completed(), platform) == completed()
