"""Many jobs at once, from plain data."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from qslurm.c1.queries.lists import Usage, backends, history, usage, with_exit_codes
from qslurm.errors import TokenError, UnreachableError
from qslurm.protocol.job_changes import PartitionLoad
from qslurm.protocol.partition_queue import queue_positions
from qslurm.slurm.rest.job_records import from_slurmctld, from_slurmdbd, partition_state
from tests.unit.jobs import job_info


def job(job_id, state="PENDING", **facts):
    return job_info(
        job_id=job_id, name="bell", state=state, **{"partition": "p_qx", "priority": 100, **facts}
    )


def test_the_place_in_line_goes_by_priority_then_age_in_each_partition():
    jobs = [job(1), job(2, priority=900), job(3), job(4, partition="p_spin2"), job(5, state="RUNNING")]
    assert queue_positions(jobs) == {2: 1, 1: 2, 3: 3, 4: 1}


@pytest.mark.parametrize(
    "facts", [{"reason": "JobHeldUser", "priority": 0}, {"reason": "Dependency"}, {"priority": 0}]
)
def test_who_does_not_wait_for_a_turn_is_in_no_line(facts):
    assert queue_positions([job(1, **facts), job(2)]) == {2: 1}


@pytest.mark.parametrize(
    ("facts", "shown"),
    [
        ({}, "12"),
        ({"array_job_id": 10, "array_task_id": 2}, "10_2"),
        ({"array_job_id": 12, "array_tasks": "3-9%2"}, "12_[3-9%2]"),
    ],
)
def test_a_job_goes_by_the_id_that_people_know(facts, shown):
    assert job(12, **facts).shown_id == shown


def test_both_of_slurms_records_say_which_task_of_an_array_it_is():
    unset = {"set": False, "infinite": False, "number": 0}
    task = {
        "job_id": 13,
        "array_job_id": 12,
        "array_task_id": {**unset, "set": True},
        "priority": {**unset, "set": True, "number": 7},
    }
    assert from_slurmctld(task).shown_id == "12_0"
    assert from_slurmctld(task).priority == 7
    waiting = {"job_id": 12, "array_job_id": 12, "array_task_id": None, "array_task_string": "1-3%1"}
    assert from_slurmctld(waiting).shown_id == "12_[1-3%1]"
    assert from_slurmctld({"job_id": 12, "array_job_id": 0, "array_task_id": None}).shown_id == "12"
    assert from_slurmdbd({"job_id": 13, "array": {"job_id": 12, "task_id": 1}}).shown_id == "12_1"
    assert from_slurmdbd({"job_id": 13, "array": {"job_id": 0, "task_id": unset}}).shown_id == "13"


@pytest.mark.parametrize("unset", [2**32 - 2, 2**32 - 1, 0, None])
def test_a_time_that_never_was_is_none(unset):
    """23.02 has NO_VAL for the start of a job that was cancelled before it."""
    said = {
        "job_id": 57,
        "state": {"current": "CANCELLED"},
        "time": {"submission": 1796069008, "start": unset, "end": 1},
    }
    assert (from_slurmdbd(said).start_time, from_slurmdbd(said).submit_time) == (None, 1796069008)


def test_a_partitions_state_is_read_in_each_of_its_forms():
    assert partition_state({"name": "p_qx", "state": "DOWN"}) == ("p_qx", "DOWN")
    assert partition_state({"name": "p_qx", "partition": {"state": ["UP"]}}) == ("p_qx", "UP")
    assert partition_state({"name": "p_qx", "partition": {}}) == ("p_qx", "UNKNOWN")


def used(origin, account, backend, *numbers):
    names = ("jobs", "executions", "shots", "qpu_seconds")
    return {
        "origin": origin,
        "account": account,
        "backend": backend,
        **dict(zip(names, numbers, strict=True)),
    }


USED = [
    used("slurm:s:1:ann", "a", "qx", 1, 2, 20, 1.0),
    used("slurm:s:2:ann", "a", "qx", 1, 1, 10, 0.5),
    used("shell:::bob", "a", "spin2", 3, 3, 5, 4.0),
    used("", "b", "qx", 1, 0, 0, 0.0),
]


def test_usage_is_added_up_by_the_researcher_and_who_used_most_comes_first():
    assert usage(USED) == [
        Usage(user="bob", account="a", backend="spin2", jobs=3, executions=3, shots=5, qpu_seconds=4.0),
        Usage(user="ann", account="a", backend="qx", jobs=2, executions=3, shots=30, qpu_seconds=1.5),
        Usage(account="b", backend="qx", jobs=1),
    ]
    assert [(row.account, row.qpu_seconds) for row in usage(USED, ["account"])] == [("a", 5.5), ("b", 0.0)]
    assert usage([]) == []


def center(*jobs, documents=None, loads=None, **more):
    def platform():
        if documents is None:
            raise UnreachableError("away")
        return documents

    def counted():
        if loads is None:
            raise UnreachableError("The job manager does not know how the jobs are.")
        return loads

    slurm = SimpleNamespace(accounted=lambda _: list(jobs), jobs=lambda: list(jobs), **more)
    results = SimpleNamespace(jobs=platform, backends=platform, loads=counted)
    return SimpleNamespace(slurm=slurm, job_manager=results, has_job_manager=True)


def test_history_has_what_ended_in_the_time_with_what_the_platform_counted():
    said = {"job_id": 12, "key": "k1", "executions": 1, "shots": 100, "qpu_seconds": 0.5}
    older = {**said, "key": "k0", "shots": 7}  # the id was given away before
    jobs = [
        job(13, state="FAILED", end_time=60),
        job(12, state="COMPLETED", end_time=50, comment="qslurm key=k1"),
        job(14, state="RUNNING"),
        job(15, state="COMPLETED", end_time=200),
    ]
    found = history(center(*jobs, documents=[said, older]), 10, 100, print)
    assert [(one.job.job_id, one.shots) for one in found] == [(12, 100), (13, None)]


def test_a_job_whose_exit_code_slurm_does_not_say_has_the_platforms():
    said = {"key": "k", "executions": 0, "shots": 0, "qpu_seconds": 0.0}
    ours = [{**said, "job_id": number, "exit_code": code} for number, code in ((12, 3), (13, 0), (14, 7))]
    jobs = [
        job(12, state="FAILED", end_time=50, comment="qslurm key=k"),
        job(
            13, state="FAILED", end_time=51, comment="qslurm key=k"
        ),  # the platform does not know better, either
        job(14, state="FAILED", end_time=52, comment="qslurm key=k", exit_code=2),
        job(15, state="FAILED", end_time=53, comment="qslurm key=of-another"),
        job(16, state="COMPLETED", end_time=54, exit_code=0),
    ]
    asked = center(*jobs, documents=ours)
    assert [one.job.exit_code for one in history(asked, 10, 100, print)] == [3, None, 2, None, 0]
    assert [one.exit_code for one in with_exit_codes(asked, jobs)] == [3, None, 2, None, 0]


def test_a_refused_token_is_not_taken_for_a_job_manager_that_is_away():
    def refused():
        raise TokenError("C2 refused the token.")

    asked = center(job(12, state="COMPLETED", end_time=50))
    asked.job_manager.jobs = refused
    with pytest.raises(TokenError):
        history(asked, 10, 100, print)


def test_history_stands_by_itself_when_the_job_manager_is_away():
    said = []
    found = history(center(job(12, state="COMPLETED", end_time=50)), 10, 100, said.append)
    assert [(one.job.job_id, one.qpu_seconds) for one in found] == [(12, None)]
    assert len(said) == 1


def test_a_backend_is_shown_with_its_partition_and_what_waits_there():
    document = {
        "name": "qx",
        "state": "idle",
        "reason": "",
        "since": 1.0,
        "qubits": 26,
        "max_shots": 10,
        "queued": 0,
    }
    held = job(2, reason="JobHeldUser")
    jobs = [job(1), held, job(3, state="RUNNING"), job(4, state="COMPLETED"), job(5, partition="p_other")]
    shown = {"documents": [document], "partitions": lambda: {"p_qx": "DOWN"}}
    (found,) = backends(center(*jobs, **shown))
    assert (found.waiting, found.in_line, found.running) == (2, 1, 1)
    assert (found.partition_state, found.qubits) == ("DOWN", 26)
    of_all = [
        PartitionLoad(partition="p_qx", waiting=9, in_line=8, running=7),
        PartitionLoad(partition="p_other", waiting=1),
    ]
    (found,) = backends(center(*jobs, **shown, loads=of_all))
    assert (found.waiting, found.in_line, found.running) == (9, 8, 7)
    (found,) = backends(center(*jobs, **shown, loads=[]))
    assert (found.waiting, found.in_line, found.running) == (0, 0, 0)
