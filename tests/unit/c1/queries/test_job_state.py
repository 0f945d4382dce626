"""What is reported about a job when its job manager cannot be asked."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from qslurm.c1.queries.job_state import judge, outcome_error
from qslurm.errors import (
    JobFailedError,
    TokenError,
    UnknownJobError,
    UnreachableError,
)
from tests.unit.jobs import job_info


class Unasked:
    """A job manager that answers every question with an error."""

    def __init__(self, error):
        self.error = error

    def _fails(self, *_, **__):
        raise self.error

    job = starts = backends = _fails


def center_without(error):
    return SimpleNamespace(prefix="", has_job_manager=True, job_manager=Unasked(error))


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
