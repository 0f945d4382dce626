"""A job whose answer was lost, and what is said of one when its platform can't be asked."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from qslurm.c1.queries.jobs import judge, outcome_error, send
from qslurm.errors import (
    JobFailedError,
    QslurmError,
    RefusedError,
    TokenError,
    UncertainError,
    UnknownJobError,
    UnreachableError,
)
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


class Unasked:
    """A job manager that answers every question with an error."""

    def __init__(self, error):
        self.error = error

    def _fails(self, *_, **__):
        raise self.error

    job = starts = backends = _fails


def center_without(error):
    return SimpleNamespace(prefix="", has_platform=True, results=Unasked(error))


TROUBLES = [UnreachableError("C2's job manager is away."), TokenError("The token is refused.")]


@pytest.mark.parametrize("trouble", TROUBLES)
def test_a_job_that_failed_says_that_its_platform_can_not_be_asked_why(trouble):
    job = job_info(job_id=12, name="bell", state="FAILED", reason="NonZeroExitCode", exit_code=3)
    error = outcome_error(center_without(trouble), job)
    assert isinstance(error, JobFailedError)
    assert trouble.message in error.hint
    assert "qslurm logs" in error.hint
    assert "said" not in outcome_error(center_without(UnknownJobError("No such job.")), job).hint


FORGOTTEN = job_info(job_id=12, name="bell", state="RUNNING", source="slurmdbd", comment="qslurm key=k")


def test_a_forgotten_job_is_not_waited_for_with_a_token_that_is_refused():
    assert judge(center_without(UnreachableError("Away.")), FORGOTTEN) == FORGOTTEN  # the next look may tell
    for job in (FORGOTTEN, job_info(job_id=12, name="bell", state="RUNNING", source="slurmdbd")):
        with pytest.raises(TokenError):
            judge(center_without(TokenError("Refused.")), job)


def test_a_refusal_for_an_unknown_partition_says_why_nobody_names_those_that_exist():
    def refuses(_):
        error = RefusedError("Invalid partition.")
        error.slurm_error = 2000
        raise error

    center = center_without(TROUBLES[0])
    center.slurm = SimpleNamespace(submit=refuses)
    with pytest.raises(QslurmError) as caught:
        send(center, PAYLOAD)
    assert TROUBLES[0].message in caught.value.hint
