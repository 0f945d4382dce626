"""Arrays: which tasks there are, how they end, what came of each."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from qslurm.c1.queries.fetching import follow_log, log_id, results
from qslurm.c1.queries.job_ids import JobRef
from qslurm.c1.queries.tasks import (
    Tasks,
    look,
    outcome_error,
    parameters_of,
    set_hold,
    wait,
)
from qslurm.errors import (
    InvalidInputError,
    JobCancelledError,
    JobFailedError,
    NotReadyError,
    RefusedError,
    TokenError,
    UnknownJobError,
    UnreachableError,
)
from qslurm.slurm.job_info import JobInfo
from tests.unit.jobs import job_info


def task(index, state="COMPLETED", job_id=None, **facts):
    started = None if state == "PENDING" else 1
    comment = "qslurm key=k kind=circuit backend=qx sweep=theta:0:1:0.5"
    about = {"array_job_id": 12, "array_task_id": index, "comment": comment, "start_time": started}
    return job_info(job_id=job_id or 13 + (index or 0), name="rabi", state=state, **{**about, **facts})


WAITING = task(None, "PENDING", job_id=12, array_tasks="2-3%1", reason="JobArrayTaskLimit")


class C2:
    """A C2 whose Slurm and job manager know what they are told."""

    def __init__(self, jobs, accounted=(), documents=None, log=None):
        self.documents = documents or {}
        self.looks = [jobs] if jobs and isinstance(jobs[0], JobInfo) else list(jobs)
        self.log = list(log or [])
        self.slurm = SimpleNamespace(
            tasks=self._tasks, accounted_tasks=lambda _: list(accounted), job=self._job
        )
        self.job_manager = SimpleNamespace(
            results=self._document,
            job=self._document,
            log_from=self._log_from,
            many_results=self._many_documents,
        )
        self.asked = []
        self.has_job_manager, self.prefix = True, ""
        self.paused = []
        self.tells = []
        self.looked = 0

    def _tasks(self, _):
        self.looked += 1
        return list(self.looks.pop(0) if len(self.looks) > 1 else self.looks[0])

    def _job(self, job_id):
        return next(job for job in self.looks[0] if job.job_id == job_id)

    def _many_documents(self, job_ids):
        """As the job manager gives them: at most two, or that there is none."""
        self.asked.append(list(job_ids))
        return [self.documents.get(job_id, {"job_id": job_id, "error": {}}) for job_id in job_ids[:2]]

    def _document(self, job_id):
        self.asked.append(job_id)
        if job_id not in self.documents:
            raise UnknownJobError(f"no {job_id}")
        return self.documents[job_id]

    def _log_from(self, _, offset):
        piece = self.log.pop(0) if self.log else b""
        if isinstance(piece, Exception):
            raise piece
        return piece, offset + len(piece)

    def delay(self, waited):
        return 0.0

    def wait_for_change(self, seconds, job):
        self.paused.append(job)
        return self.tells.pop(0) if self.tells else None


def counted(job_id, key="k#0", **more):
    return {"job_id": job_id, "key": key, "kind": "circuit", "state": "finished", "counts": {"0": 1}, **more}


def test_an_array_is_its_tasks_in_order_those_that_slurmctld_has_forgotten_among_them():
    c2 = C2([task(1), WAITING], accounted=[task(0), task(1, "RUNNING"), task(None, job_id=12)])
    tasks = look(c2, JobRef(12))
    assert [job.shown_id for job in tasks.jobs] == ["12_0", "12_1", "12_[2-3%1]"]
    assert (tasks.is_array, tasks.is_final) == (True, False)
    assert tasks.word == "2 completed, 2 waiting"
    assert tasks.why.startswith("its array has reached its limit")


def test_one_task_is_found_by_its_index_also_where_it_waits_with_others():
    c2 = C2([task(1), WAITING])
    assert look(c2, JobRef(12, 1)).jobs[0].job_id == 14
    assert look(c2, JobRef(12, 3)).jobs[0].shown_id == "12_3"
    with pytest.raises(UnknownJobError, match="no task 9"):
        look(c2, JobRef(12, 9))


def test_a_job_that_is_no_array_is_itself():
    job = JobInfo(job_id=5, name="bell", state="COMPLETED")
    tasks = look(C2([job]), JobRef(5))
    assert (tasks.jobs, tasks.is_array, outcome_error(C2([job]), tasks)) == ((job,), False, None)
    with pytest.raises(UnknownJobError):
        look(C2([job]), JobRef(5, 1))


def test_waiting_for_an_array_is_over_with_its_last_task():
    polls = []
    c2 = C2([[task(0), WAITING], [task(0), task(1), task(2, "RUNNING")], [task(0), task(1), task(2)]])
    assert len(wait(c2, JobRef(12), on_poll=polls.append).jobs) == 3
    assert [poll.job.is_final for poll in polls] == [False, False, True]
    assert [job.shown_id for job in c2.paused] == ["12_[2-3%1]", "12_2"]


def test_who_is_told_how_the_job_is_by_whom_it_waits_with_does_not_ask_again():
    c2 = C2([[job_info(job_id=5, name="x", state="PENDING")]])
    c2.tells = [
        [job_info(job_id=5, name="x", state="RUNNING")],
        None,  # whoever tells is away for a moment
        [job_info(job_id=5, name="x", state="COMPLETED")],
    ]
    polls = []
    assert wait(c2, JobRef(5), on_poll=polls.append).word == "completed"
    assert [poll.job.word for poll in polls] == ["waiting", "running", "waiting", "completed"]
    assert c2.looked == 2


@pytest.mark.parametrize(
    ("states", "error", "words"),
    [
        (("COMPLETED", "FAILED", "CANCELLED"), JobFailedError, "1 of 3 tasks of job 12 failed: 12_1"),
        (
            ("CANCELLED", "COMPLETED", "CANCELLED"),
            JobCancelledError,
            "2 of 3 tasks of job 12 were cancelled: 12_0, 12_2",
        ),
        (("COMPLETED",) * 3, None, ""),
    ],
)
def test_of_an_array_the_worst_end_counts(states, error, words):
    c2 = C2([task(index, state) for index, state in enumerate(states)])
    found = outcome_error(c2, look(c2, JobRef(12)))
    assert type(found) is (error or type(None))
    assert words in str(found or "")


def test_a_task_knows_the_values_that_its_sweep_gave_it():
    assert parameters_of(task(1)) == {"theta": "0.5"}
    assert parameters_of(WAITING) == {}
    assert parameters_of(task(7)) == {}


def test_an_arrays_results_are_its_tasks_each_with_its_parameters():
    c2 = C2([task(0), task(1, "FAILED"), WAITING], documents={12: counted(12, "k#5"), 13: counted(13)})
    document = results(c2, JobRef(12))
    assert document["state"] == "1 completed, 1 failed, 2 waiting"
    first, second, third, fourth = document["tasks"]
    assert (first["id"], first["parameters"], first["counts"]) == ("12_0", {"theta": "0"}, {"0": 1})
    assert (second["parameters"], second["error"]["type"]) == ({"theta": "0.5"}, "job_failed")
    assert [(one["id"], one["error"]["type"]) for one in (third, fourth)] == [
        ("12_2", "not_ready"),
        ("12_3", "not_ready"),
    ]
    assert results(c2, JobRef(12, 0))["id"] == "12_0"
    with pytest.raises(NotReadyError):
        results(c2, JobRef(12, 2))


def test_an_array_that_was_cancelled_midway_has_every_task_each_with_its_values_and_its_end():
    """Those that never started share a record, and a job id: they are counted one by one, and asked for once."""
    never = task(None, "CANCELLED", job_id=12, array_tasks="1-90%1", start_time=9, reason="JobArrayTaskLimit")
    c2 = C2([task(0), never], documents={13: counted(13)})
    document = results(c2, JobRef(12))
    assert document["state"] == "1 completed, 90 cancelled"
    tasks = [(one["id"], one["parameters"], one.get("error", {}).get("type")) for one in document["tasks"]]
    assert tasks[:3] == [
        ("12_0", {"theta": "0"}, None),
        ("12_1", {"theta": "0.5"}, "job_cancelled"),
        ("12_2", {"theta": "1"}, "job_cancelled"),
    ]
    assert len(tasks) == 91
    assert len(c2.asked) < 10


def test_the_results_of_many_tasks_come_in_few_answers():
    c2 = C2(
        [*(task(index) for index in range(5)), task(5, "FAILED"), WAITING],
        documents={12: counted(12, "k#5")} | {13 + index: counted(13 + index) for index in range(5)},
    )
    c2.documents[14]["key"] = "another-job-that-had-this-id"
    found = results(c2, JobRef(12))["tasks"]
    assert [one["id"] for one in found if "error" not in one] == [f"12_{index}" for index in range(5)]
    assert c2.asked == [12, [13, 14, 15, 16, 17, 18], [15, 16, 17, 18], [17, 18], 14, 18, 18]


@pytest.mark.parametrize("known", [0, 1])
def test_a_platform_that_goes_away_is_not_asked_for_each_task(known):
    c2, asked = C2([task(index) for index in range(100)], documents={12: counted(12, "k#5")}), []
    c2.job_manager.many_results = lambda job_ids: []

    def document(job_id):
        asked.append(job_id)
        if job_id == 12 or len(asked) <= 1 + known:
            return counted(job_id)
        raise UnreachableError("It is away.")

    c2.job_manager.results = document
    if known:
        tasks = results(c2, JobRef(12))["tasks"]
        assert [one.get("error", {}).get("type") for one in tasks] == [None, *["unreachable"] * 99]
    else:
        with pytest.raises(UnreachableError):
            results(c2, JobRef(12))
    assert len(asked) == 2 + known


def test_a_job_of_its_own_is_asked_for_once_and_given_as_it_is():
    c2 = C2([], documents={5: counted(5, "k")})
    assert results(c2, JobRef(5)) == counted(5, "k")


def test_an_array_without_any_results_has_none_yet():
    with pytest.raises(NotReadyError, match="No task of job 12"):
        results(C2([WAITING]), JobRef(12))


def test_the_log_of_an_array_is_that_of_a_task():
    c2 = C2([task(0), WAITING], documents={12: counted(12, "k#5"), 5: counted(5, "k")})
    assert log_id(c2, JobRef(12, 0)) == 13
    assert log_id(c2, JobRef(5)) == 5
    with pytest.raises(InvalidInputError, match="Name a task, for example 12_0"):
        log_id(c2, JobRef(12))
    with pytest.raises(UnknownJobError, match="has not started"):
        log_id(c2, JobRef(12, 3))


def test_following_a_log_ends_with_the_job_and_misses_nothing():
    running, over = (
        JobInfo(job_id=5, name="x", state="RUNNING"),
        JobInfo(job_id=5, name="x", state="COMPLETED"),
    )
    log = [UnknownJobError("none yet"), b"one\n", b"", UnreachableError("away"), b"two\n", b"three\n", b""]
    c2, written = C2([[running]] * 4 + [[over]], log=log), []
    follow_log(c2, JobRef(5), written.append, lambda _: None)
    assert b"".join(written) == b"one\ntwo\nthree\n"
    with pytest.raises(UnknownJobError):
        follow_log(C2([over], log=[UnknownJobError("none")]), JobRef(5), written.append, lambda _: None)


def test_what_slurmrestd_says_of_an_arrays_update_is_judged_by_its_tasks():
    def update(job_id, fields):
        raise RefusedError("Whatever it says.")

    c2 = C2([task(None, "PENDING", job_id=12, array_tasks="0-3", reason="JobHeldUser")])
    c2.slurm.update = update
    assert set_hold(c2, 12, held=True) == []
    with pytest.raises(RefusedError):
        set_hold(c2, 12, held=False)
    for others in ([JobInfo(job_id=12, name="j", state="PENDING", reason="JobHeldUser")], [task(0)]):
        other = C2(others)
        other.slurm.update = update
        with pytest.raises(RefusedError):
            set_hold(other, 12, held=True)


def test_tasks_that_were_cancelled_before_they_began_are_counted_one_by_one():
    never = task(None, "CANCELLED", job_id=12, array_tasks="2-9%1")
    failure = outcome_error(None, Tasks(JobRef(12), (task(0), task(1), never)))
    assert failure.message == "8 of 10 tasks of job 12 were cancelled: 12_[2-9%1]."
    assert failure.hint == "See `qslurm show 12`."


@pytest.mark.parametrize(
    ("error", "jobs", "is_raised"),
    [
        (UnreachableError("C2's accounting is away."), [task(0), task(1)], True),  # a third may have failed
        (UnreachableError("C2's accounting is away."), [task(0), WAITING], False),  # nothing is decided yet
        (TokenError("Refused."), [task(0), WAITING], True),
        (UnknownJobError("It hears of it later."), [task(0), task(1)], False),
    ],
)
def test_no_array_is_called_over_whose_worst_task_may_be_forgotten(error, jobs, is_raised):
    def fails(_):
        raise error

    c2 = C2(jobs)
    c2.slurm.accounted_tasks = fails
    if is_raised:
        with pytest.raises(type(error)):
            look(c2, JobRef(12))
    else:
        assert len(look(c2, JobRef(12)).jobs) == len(jobs)
