"""Futures of jobs, settled by whatever C2 says of them; C2 is a table here."""

import asyncio
import threading
from concurrent.futures import FIRST_COMPLETED, wait
from contextlib import closing

import pytest

from qslurm.c1.api.job import Job
from qslurm.c1.api.job_watcher import JobWatcher
from qslurm.c1.api.result import Result
from qslurm.errors import JobCancelledError, JobFailedError, UnreachableError
from tests.unit.waiting import until

PATIENCE_S = 30


class C2:
    """What is known of jobs, by id: a result, an error to raise, or nothing yet."""

    def __init__(self):
        self.known = {}
        self.looks = 0
        self.cancelled = []

    def settle(self, job, reported):
        self.looks += 1
        said = self.known.get(job.id)
        if isinstance(said, Exception):
            raise said
        return said

    def cancel(self, job_id):
        self.cancelled.append(job_id)
        self.known[job_id] = JobCancelledError(f"Job {job_id} was cancelled.")
        return True


@pytest.fixture
def c2():
    return C2()


def watching(c2, **options):
    watcher = JobWatcher(
        c2.settle, delay=lambda _: 0.001, first_delay_s=0.001, least_pause_s=0.001, **options
    )

    def watch(job_id):
        job = Job(c2, job_id)
        watcher.add(job)
        return job

    return watcher, watch


@pytest.fixture
def watched(c2):
    watcher, watch = watching(c2)
    yield watch
    watcher.close()


def test_a_job_is_done_when_c2_has_its_result(c2, watched):
    job = watched(1)
    assert not job.done()
    c2.known[1] = Result(1, "circuit", shots=10, counts={"0": 10})
    assert job.result(PATIENCE_S).counts == {"0": 10}
    assert job.done()
    assert not job.cancelled()


def test_a_job_that_failed_raises_with_c2s_reason(c2, watched):
    c2.known[1] = JobFailedError("Job 1 failed: no such gate.")
    with pytest.raises(JobFailedError, match="no such gate"):
        watched(1).result(PATIENCE_S)


def test_waiting_may_end_before_the_job_does(c2, watched):
    job = watched(1)
    with pytest.raises(TimeoutError):
        job.result(0.01)
    assert c2.cancelled == []
    c2.known[1] = Result(1, "circuit")
    assert job.result(PATIENCE_S).job_id == 1


def test_a_silence_of_c2_is_waited_out(c2, watched):
    c2.known[1] = UnreachableError("C2 is silent.")
    job = watched(1)
    until(lambda: c2.looks > 3)
    assert not job.done()
    c2.known[1] = Result(1, "circuit")
    assert job.result(PATIENCE_S).job_id == 1


def test_a_long_silence_of_c2_is_reported(c2):
    c2.known[1] = UnreachableError("C2 is silent.")
    watcher, watch = watching(c2, patience_s=0.0)
    with closing(watcher), pytest.raises(UnreachableError, match="the job continues"):
        watch(1).result(PATIENCE_S)


def test_what_nobody_expected_is_heard_by_who_waits(c2, watched):
    c2.known[1] = ZeroDivisionError("a bug")
    with pytest.raises(ZeroDivisionError):
        watched(1).result(PATIENCE_S)


def test_concurrent_futures_takes_jobs_as_its_own(c2, watched):
    jobs = [watched(number) for number in range(1, 31)]
    c2.known[17] = Result(17, "circuit")
    done, _ = wait(jobs, PATIENCE_S, FIRST_COMPLETED)
    assert [job.id for job in done] == [17]
    c2.known.update({number: Result(number, "circuit") for number in range(1, 31)})
    done, left = wait(jobs, PATIENCE_S)
    assert (len(done), left) == (30, set())


def test_asyncio_awaits_jobs_and_giving_up_does_not_cancel_them(c2, watched):
    job, slow = watched(1), watched(2)
    c2.known[1] = Result(1, "circuit", counts={"1": 5})

    async def story():
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(_awaited(slow), 0.01)
        return await asyncio.wait_for(_awaited(job), PATIENCE_S)

    assert asyncio.run(story()).counts == {"1": 5}
    assert c2.cancelled == []
    assert not slow.done()


async def _awaited(job):
    return await job


def test_a_cancelled_job_says_so(c2, watched):
    job = watched(1)
    assert job.cancel()
    with pytest.raises(JobCancelledError):
        job.result(PATIENCE_S)
    assert job.cancelled()
    assert not job.cancel()
    assert c2.cancelled == [1]


def test_the_thread_ends_with_the_last_job_and_comes_back_for_the_next(c2, watched):
    c2.known.update({1: Result(1, "circuit"), 2: Result(2, "circuit")})
    watched(1).result(PATIENCE_S)
    for thread in threading.enumerate():
        if thread.name == "qslurm-jobs":
            thread.join(PATIENCE_S)
    assert "qslurm-jobs" not in {thread.name for thread in threading.enumerate()}
    assert watched(2).result(PATIENCE_S).job_id == 2
