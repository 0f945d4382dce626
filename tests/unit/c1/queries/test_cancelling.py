"""Which jobs are cancelled when they are chosen by states and names."""

from __future__ import annotations

import pytest

from qslurm.c1.queries.cancelling import to_cancel
from qslurm.c1.queries.job_ids import JobRef, parse_ref
from qslurm.errors import InvalidInputError
from tests.unit.jobs import job_info


def waits(job_id, tasks="", **facts):
    array = {"array_job_id": job_id, "array_tasks": tasks} if tasks else {}
    return job_info(**{"job_id": job_id, "name": "bell", "state": "PENDING", **array, **facts})


def runs(array, task, state="RUNNING"):
    return job_info(job_id=array + task + 1, name="bell", state=state, array_job_id=array, array_task_id=task)


ARRAY = [waits(20, "3-5%2"), runs(20, 1), runs(20, 2), runs(20, 0, "COMPLETED")]


def pending(job):
    return job.state == "PENDING"


def chosen(jobs, fits=lambda job: True, *among):
    return [str(ref) for ref in to_cancel(jobs, fits, [parse_ref(word) for word in among])]


def test_what_is_over_is_left_alone():
    assert chosen([waits(12), waits(13, state="COMPLETED"), waits(14, name="vqe")]) == ["12", "14"]


def test_an_array_of_which_all_that_is_left_fits_is_one():
    assert chosen(ARRAY) == ["20"]
    assert to_cancel(ARRAY, lambda job: True, [JobRef(20)]) == [JobRef(20)]


def test_of_another_array_each_task_that_fits():
    assert chosen(ARRAY, pending) == ["20_3", "20_4", "20_5"]
    assert chosen(ARRAY, lambda job: job.state == "RUNNING") == ["20_1", "20_2"]


def test_with_names_only_what_is_named_and_fits():
    jobs = [*ARRAY, waits(12), waits(13)]
    assert chosen(jobs, pending, "13", "20_4", "20_1") == ["20_4", "13"]
    assert chosen(jobs, pending, "20") == ["20_3", "20_4", "20_5"]
    assert chosen(jobs, lambda job: True, "77") == []


def test_tasks_that_slurm_does_not_name_are_not_guessed():
    left = [waits(20, "1,3,5,..."), runs(20, 0)]
    assert chosen(left) == ["20"]
    with pytest.raises(InvalidInputError, match="does not list the pending tasks of array 20"):
        to_cancel(left, pending)
