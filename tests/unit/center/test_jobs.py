"""A job that C2 has taken, and whose answer was lost."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from qslurm.center.jobs import submit
from qslurm.errors import UncertainError
from qslurm.slurmrest import JobInfo

PAYLOAD = {"job": {"comment": "qslurm key=0123456789abcdef"}}


def center_that_finds(**found):
    def lost(payload):
        raise UncertainError("No answer.")

    job = JobInfo(name="bell", state="RUNNING", **found)
    return SimpleNamespace(slurm=SimpleNamespace(submit=lost, find_by_key=lambda key: job))


def test_an_array_that_has_begun_is_found_as_the_array():
    assert submit(center_that_finds(job_id=13, array_job_id=12, array_task_id=0), PAYLOAD).job_id == 12
    assert submit(center_that_finds(job_id=14), PAYLOAD).job_id == 14


def test_what_the_agent_has_and_c2_has_not_yet_is_no_job():
    with pytest.raises(UncertainError, match="Nobody can say"):
        submit(center_that_finds(job_id=0), PAYLOAD)
