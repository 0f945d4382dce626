"""`Center.map`: in order, a part at a time, alike ones as an array; what is left is cancelled."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import Future
from contextlib import nullcontext
from itertools import count
from types import SimpleNamespace

import pytest

from qslurm import Center
from qslurm.c1.api.futures import ArrayFutures, settle_tasks
from qslurm.c1.api.mapping import Results
from qslurm.errors import InvalidInputError, JobCancelledError, JobFailedError, RefusedError, TokenError
from qslurm.payload.envelope import unpack
from qslurm.slurm.job_info import JobInfo
from qslurm.slurm.rest import Submitted
from tests.unit.jobs import job_info

BELL = "version 3.0\nqubit[2] q\nbit[2] b\nRx({angle}) q[0]\nb = measure q\n"


class Jobs:
    """Takes sources, each a job that completes when it is told to; an error among them is how that one ends."""

    def __init__(self, *, completes=True):
        self.completes, self.read, self.futures, self.cancelled = completes, 0, [], []

    def sources(self, number):
        for one in range(number):
            self.read += 1
            yield one

    def send(self, part):
        pending = []
        for source in part:
            future = Future()
            if isinstance(source, Exception):
                future.set_exception(source)
            elif self.completes:
                future.set_result(source)
            self.futures.append(future)
            pending.append((len(self.futures), future))
        return pending

    def map(self, sources, *, end=None, buffersize=10, return_exceptions=False):
        return Results(
            sources,
            self.send,
            self.cancelled.extend,
            end=end,
            buffersize=buffersize,
            return_exceptions=return_exceptions,
        )


def test_results_come_in_order_and_no_more_is_read_than_there_is_room_for():
    jobs = Jobs()
    results = jobs.map(jobs.sources(100))
    assert jobs.read == 10
    for expected in range(100):
        assert next(results) == expected
        assert jobs.read <= expected + 11
    assert list(results) == []
    assert jobs.cancelled == []


def test_there_may_be_any_number_of_sources():
    jobs = Jobs()
    results = jobs.map(count())
    assert [next(results) for _ in range(25)] == list(range(25))
    assert len(jobs.futures) < 40


def test_the_first_that_fails_ends_it_and_cancels_what_has_not_ended():
    jobs = Jobs(completes=False)
    results = jobs.map([0, JobFailedError("no"), 2, 3])
    jobs.futures[0].set_result("first")
    jobs.futures[2].set_result("third")
    assert next(results) == "first"
    with pytest.raises(JobFailedError):
        next(results)
    assert jobs.cancelled == [4]
    assert list(results) == []


def test_an_error_can_be_had_in_its_place():
    error = JobFailedError("no")
    assert list(Jobs().map([0, error, 2], return_exceptions=True)) == [0, error, 2]


@pytest.mark.parametrize("how", ["close", "forget", "time"])
def test_whoever_ends_the_iteration_cancels_what_is_left(how):
    jobs = Jobs(completes=False)
    results = jobs.map([0, 1], end=0.0 if how == "time" else None)
    if how == "close":
        results.close()
    elif how == "time":
        with pytest.raises(TimeoutError):
            next(results)
    else:
        del results
    assert jobs.cancelled == [1, 2]


def test_what_was_submitted_can_be_had_after_the_block_and_the_rest_is_said():
    jobs = Jobs()
    results = jobs.map(jobs.sources(100))
    results.finish()
    assert [next(results) for _ in range(10)] == list(range(10))
    with pytest.raises(RuntimeError, match="before map had submitted all"):
        next(results)
    assert jobs.cancelled == []


class C2:
    """Takes payloads, and has a result for each task at once; some are refused by name."""

    submissions_at_once, has_job_manager, prefix = 2, True, ""

    def __init__(self, config):
        self.config, self.slurm, self.job_manager = config, self, self
        self.taken, self.cancelled, self.errors = [], [], {}

    def limits(self):
        return []

    def submit(self, payload):
        if error := self.errors.get(payload["job"]["name"]):
            raise error
        self.taken.append(unpack(payload["script"]))
        return Submitted(len(self.taken))

    def tasks(self, job_id):
        number = len(self.taken[job_id - 1].sources)
        job = JobInfo(job_id=job_id, name="", state="COMPLETED")
        if not number:
            return [job]
        return [
            job_info(job_id=1000 + task, name="", state="COMPLETED", array_job_id=job_id, array_task_id=task)
            for task in range(number)
        ]

    def job(self, job_id):
        return self.tasks(job_id)[0]

    def cancel(self, job_id, task=None):
        self.cancelled.append(job_id)
        return []

    def delay(self, waited_s):
        return 0.0

    def close(self):
        pass


@pytest.fixture
def c2(tmp_path, monkeypatch):
    (tmp_path / "config.toml").write_text('[c2]\nurl = "http://c2"\n[job]\nbackend = "qx"\n')
    monkeypatch.setenv("QSLURM_CONFIG", str(tmp_path / "config.toml"))
    monkeypatch.setattr("qslurm.c1.connection.center_connection.open_connection", lambda config: c2)
    monkeypatch.setattr("qslurm.c1.api.job_watcher.JobWatcher.add", lambda self, job: None)
    c2 = C2(None)
    return c2


def test_circuits_that_are_alike_are_one_request(c2):
    circuits = [BELL.format(angle=number) for number in range(30)]
    results = Center().map([*circuits, f"// #QSLURM --seed 7\n{circuits[0]}"], shots=5)
    assert sorted(len(one.sources) for one in c2.taken) == [0, 30]
    (array,) = (one for one in c2.taken if one.sources)
    assert [array.of_task(task).source for task in range(30)] == circuits
    results.close()
    assert sorted(c2.cancelled) == [1, 2]


def test_one_that_is_wrong_keeps_all_from_being_sent_and_an_unknown_option_is_one(c2):
    with pytest.raises(InvalidInputError):
        Center().map([BELL.format(angle=1), "version 3.0; nonsense"])
    with pytest.raises(TypeError, match="unexpected keyword argument 'shot'"):
        Center().map([BELL.format(angle=1)], shot=5)
    assert c2.taken == []


def test_a_refusal_is_that_jobs_own_and_another_error_takes_back_what_was_sent(c2):
    good, bad = (f"#!/bin/sh\n#QSLURM --job-name {name}\ntrue\n" for name in ("good", "bad"))
    c2.errors["bad"] = RefusedError("No such account.")
    with pytest.raises(RefusedError, match="No such account"):
        list(Center().map([bad, good]))
    assert c2.cancelled == [1]
    c2.errors["bad"] = TokenError("expired")
    c2.submissions_at_once = 1
    with pytest.raises(TokenError):
        Center().map([good, bad, good])
    assert c2.cancelled == [1, 2]


def test_who_is_interrupted_while_jobs_are_sent_leaves_none_behind(c2, tmp_path, monkeypatch):
    good, bad = (f"#!/bin/sh\n#QSLURM --job-name {name}\ntrue\n" for name in ("good", "bad"))
    c2.submissions_at_once, c2.errors["bad"] = 1, KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        Center().map([good, good, bad, good])
    assert c2.cancelled == [1, 2]
    monkeypatch.setattr("qslurm.c1.followups.followup_submission.followed", lambda *_: nullcontext(7))
    with pytest.raises(KeyboardInterrupt):
        Center().map([good, bad], then=tmp_path / "then.sh")
    assert c2.cancelled == [1, 2, 3]


def test_an_error_that_ends_the_block_cancels_what_is_left(c2):
    with pytest.raises(ZeroDivisionError), Center() as center:
        results = center.map([BELL.format(angle=number) for number in range(3)])
        raise ZeroDivisionError
    assert sorted(c2.cancelled) == [1, 2, 3]
    assert list(results) == []


def test_each_task_of_an_array_has_its_own_end_as_soon_as_it_has_one():
    states = ["COMPLETED", "FAILED", "RUNNING", "PENDING"]

    def tasks(job_id):
        own = [
            job_info(job_id=50 + task, name="", state=state, array_job_id=12, array_task_id=task)
            for task, state in enumerate(states[:3])
        ]
        return [*own, job_info(job_id=12, name="", state=states[3], array_job_id=12, array_tasks="3-4")]

    asked = Counter()

    def result(job_id):
        asked[job_id] += 1
        return {"job_id": job_id, "kind": "circuit", "counts": {"0": job_id}}

    center = SimpleNamespace(
        slurm=SimpleNamespace(tasks=tasks, accounted_tasks=lambda job_id: []),
        job_manager=SimpleNamespace(results=result, job=lambda job_id: {}),
        has_job_manager=True,
        prefix="",
    )
    array = ArrayFutures(12, 5)
    assert settle_tasks(center, array) is None
    assert [future.done() for future in array.futures] == [True, True, False, False, False]
    assert array.futures[0].result().counts == {"0": 50}
    assert isinstance(array.futures[1].exception(), JobFailedError)
    states[2:] = ["COMPLETED", "CANCELLED"]
    assert settle_tasks(center, array) is not None
    assert array.futures[2].result().counts == {"0": 52}
    assert all(isinstance(future.exception(), JobCancelledError) for future in array.futures[3:])
    assert asked == {50: 1, 52: 1}
