"""A submission whose answer was lost, and one for a partition that does not exist."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from qslurm.c1.submission.sending import send
from qslurm.errors import QslurmError, RefusedError, TokenError, UncertainError, UnreachableError
from tests.unit.jobs import job_info

PAYLOAD = {"job": {"comment": "qslurm key=0123456789abcdef"}}


def center_that_finds(**found):
    def lost(payload):
        raise UncertainError("No answer.")

    job = job_info(name="bell", state="RUNNING", **found)
    return SimpleNamespace(slurm=SimpleNamespace(submit=lost, find_by_key=lambda key: job))


def test_an_array_that_has_begun_is_found_as_the_array():
    assert send(center_that_finds(job_id=13, array_job_id=12, array_task_id=0), PAYLOAD).job_id == 12
    assert send(center_that_finds(job_id=14), PAYLOAD).job_id == 14


def test_what_the_agent_has_and_c2_has_not_yet_is_no_job():
    with pytest.raises(UncertainError, match="It is unknown whether"):
        send(center_that_finds(job_id=0), PAYLOAD)


@pytest.mark.parametrize("error", [UnreachableError("Away."), TokenError("The token is refused.")])
def test_a_look_up_that_fails_leaves_the_doubt_and_says_more_than_silence(error):
    def fails(_):
        raise error

    center = center_that_finds(job_id=14)
    center.slurm.find_by_key = fails
    with pytest.raises(UncertainError) as caught:
        send(center, PAYLOAD)
    assert (error.message in caught.value.message) == isinstance(error, TokenError)


def test_a_refusal_for_an_unknown_partition_says_why_nobody_names_those_that_exist():
    def refuses(_):
        error = RefusedError("Invalid partition.")
        error.slurm_error = 2000
        raise error

    trouble = UnreachableError("C2's job manager is away.")

    def fails():
        raise trouble

    center = SimpleNamespace(
        has_job_manager=True,
        slurm=SimpleNamespace(submit=refuses),
        job_manager=SimpleNamespace(backends=fails),
    )
    with pytest.raises(QslurmError) as caught:
        send(center, PAYLOAD)
    assert trouble.message in caught.value.hint
