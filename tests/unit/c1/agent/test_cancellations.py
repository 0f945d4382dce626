"""A job that was cancelled, and is back since slurmctld has forgotten that, is cancelled again; no other is."""

from __future__ import annotations

import time

import pytest

from qslurm.c1.agent.cancellations import AT_ONCE, GRACE_S, Cancellations
from qslurm.c1.agent.outbox import Outbox
from qslurm.c1.agent.reconcile import GRACE_S as LOST_S
from qslurm.c1.agent.reconcile import Reconciler
from qslurm.errors import NoRoomError, UnknownJobError, UnreachableError
from tests.unit.jobs import job_info

COMMENT = "qslurm key=key-1"


class C2:
    def __init__(self):
        self.slurm = self
        self.known, self.cancelled, self.trouble = [], [], None

    def tasks(self, job_id):
        if self.trouble:
            raise self.trouble
        return self.known

    def cancel(self, job_id):
        self.cancelled.append(job_id)


def job(state="PENDING", comment=COMMENT, job_id=12, array=None):
    return job_info(job_id=job_id, name="x", state=state, comment=comment, array_job_id=array)


@pytest.fixture
def c2():
    return C2()


@pytest.fixture
def outbox(tmp_path):
    outbox = Outbox(tmp_path)
    entry = outbox.add("key-1", "ann", {"job": {"comment": COMMENT, "partition": "p_qx"}})
    outbox.mark_accepted(entry.number, 12, {})
    yield outbox
    outbox.close()


@pytest.fixture
def cancelled(outbox):
    Cancellations(outbox).add(1, "key-1", 12)
    return Cancellations(outbox)  # the agent was killed in between


def test_a_job_that_is_back_is_cancelled_again_until_it_is_over(cancelled, c2):
    c2.known = [job()]
    cancelled.record([job()], 0.0)
    cancelled.repeat(c2, GRACE_S - 1)
    assert (c2.cancelled, cancelled.are_back) == ([], True)
    for times in (1, 2):
        cancelled.repeat(c2, times * GRACE_S)
        assert c2.cancelled == [12] * times
    cancelled.record([job("CANCELLED")], 3 * GRACE_S)
    cancelled.repeat(c2, 3 * GRACE_S)
    assert (len(c2.cancelled), cancelled.are_back) == (2, False)


@pytest.mark.parametrize(
    "seen", [job("COMPLETING"), job("CANCELLED"), job(comment="qslurm key=key-2"), job(comment="")]
)
def test_what_is_over_and_what_is_anothers_is_left_alone(cancelled, c2, seen):
    cancelled.record([seen], 0.0)
    assert not cancelled.are_back
    cancelled.record([job()], 0.0)
    c2.known = [seen]  # C2 has given its id again meanwhile, or it is over
    cancelled.repeat(c2, GRACE_S)
    assert (c2.cancelled, cancelled.are_back) == ([], False)


def test_trouble_with_c2_is_no_end_of_it(cancelled, c2):
    cancelled.record([job()], 0.0)
    c2.known, c2.trouble = [job()], UnreachableError("away")
    cancelled.repeat(c2, GRACE_S)
    c2.trouble = None
    cancelled.repeat(c2, 2 * GRACE_S)
    assert c2.cancelled == [12]
    c2.trouble = UnknownJobError("gone")
    cancelled.repeat(c2, 3 * GRACE_S)
    assert not cancelled.are_back


def test_what_c2_forgot_after_it_was_cancelled_is_not_sent_again(cancelled, outbox, c2):
    c2.has_job_manager, c2.job_manager = True, c2
    c2.jobs, c2.accounted, c2.starts = (lambda *_: [] for _ in range(3))
    lost = Reconciler(outbox, lambda: None)
    lost.suspect(1, 0.0)
    assert [one.state for one in lost.check(c2, LOST_S + 1)] == ["CANCELLED"]
    assert outbox.by_number([1])[0].ended


def test_a_cancellation_that_was_forgotten_before_c2_told_of_it_is_repeated(outbox, c2):
    cancelled = Cancellations(outbox)
    cancelled.add(1, "key-1", 12)
    assert cancelled.are_back
    c2.known = [job()]
    cancelled.repeat(c2, time.monotonic() + GRACE_S)
    assert c2.cancelled == [12]
    cancelled.record([job("CANCELLED")], 0.0)
    assert not cancelled.are_back


def test_the_end_of_one_task_is_not_that_of_the_array(cancelled, c2):
    waits, runs, is_over = (
        job(array=12),
        job("RUNNING", job_id=13, array=12),
        job("CANCELLED", job_id=13, array=12),
    )
    cancelled.record([waits, runs], 0.0)
    cancelled.record([is_over], 1.0)
    c2.known = [waits, is_over]
    cancelled.repeat(c2, GRACE_S)
    assert c2.cancelled == [12]
    c2.known = [job("CANCELLED", array=12), is_over]
    cancelled.record(c2.known, GRACE_S)
    cancelled.repeat(c2, 2 * GRACE_S)
    assert (c2.cancelled, cancelled.are_back) == ([12], False)


def test_a_full_disk_keeps_nobody_from_cancelling(outbox, c2, monkeypatch):
    def full(number):
        raise NoRoomError("The disk is full.")

    monkeypatch.setattr(outbox, "record_cancellation", full)
    cancelled = Cancellations(outbox)
    cancelled.add(1, "key-1", 12)
    assert cancelled.are_back


def test_many_at_once_take_their_turns(cancelled, c2):
    c2.known = [job()]
    number = AT_ONCE + 3
    cancelled.record([job(job_id=job_id) for job_id in range(number)], 0.0)
    cancelled.repeat(c2, GRACE_S)
    assert len(c2.cancelled) == AT_ONCE
    cancelled.repeat(c2, GRACE_S + 1)
    assert sorted(c2.cancelled) == list(range(number))
