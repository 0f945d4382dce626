"""A job that C2 does not show any more is sent again only if nobody can have run it."""

from __future__ import annotations

import msgspec
import pytest

from qslurm.c1.agent.outbox import Outbox
from qslurm.c1.agent.reconcile import GRACE_S, PAUSE_S, Reconciler
from tests.unit.jobs import job_info

LATER = GRACE_S + 1


def job(job_id, key, state="PENDING", source="slurmctld", cancelled_by=""):
    return job_info(
        job_id=job_id,
        name="x",
        state=state,
        user="center_a",
        comment=f"qslurm key={key}",
        source=source,
        cancelled_by=cancelled_by,
    )


def start(state, *, begun=None, kind="script", key="key-1"):
    started = state in ("running", "finished") if begun is None else begun
    return {"state": state, "started_at": 5.0 if started else None, "kind": kind, "key": key, "job_id": 12}


class C2:
    """slurmctld, slurmdbd and the platform, as far as they are asked about lost jobs."""

    has_job_manager = True

    def __init__(self):
        self.slurm = self.job_manager = self
        self.user = "center_a"
        self.shown, self.booked, self.began = [], [], {}

    def jobs(self):
        return self.shown

    def accounted(self, since):
        return self.booked

    def starts(self, key):
        return self.began.get(key, [])


@pytest.fixture
def c2():
    return C2()


@pytest.fixture
def outbox(tmp_path):
    outbox = Outbox(tmp_path)
    entry = outbox.add("key-1", "ann", {"job": {"partition": "p_qx", "comment": "qslurm key=key-1"}})
    outbox.mark_accepted(entry.number, 12, {})
    yield outbox
    outbox.close()


def found_out(outbox, c2):
    """What is left in the outbox when a suspect has been looked into, and how often the sender was woken."""
    woken = []
    lost = Reconciler(outbox, lambda: woken.append(1))
    lost.suspect(1, 0.0)
    assert lost.check(c2, GRACE_S / 2) == []
    over = lost.check(c2, LATER)
    entry = outbox.by_number([1])[0]
    return entry.state, entry.job_id, entry.ended, [one.state for one in over], len(woken)


@pytest.mark.parametrize(
    "starts",
    [
        [],
        [start("failed", begun=False)],
        [start("withdrawn", begun=True)],
        [start("withdrawn", begun=True), start("withdrawn", begun=True)],
        [
            start("finished", kind="circuit", key="key-1#0"),
            start("failed", begun=False, kind="circuit", key="key-1#1"),
        ],
    ],
)
def test_what_never_ran_is_sent_again(outbox, c2, starts):
    c2.began["key-1"] = starts
    c2.booked = [job(12, "key-1", source="slurmdbd")]  # for ever, since nobody will tell slurmdbd of an end
    assert found_out(outbox, c2) == ("waiting", None, False, [], 1)
    assert outbox.by_job(12).key == "key-1"


@pytest.mark.parametrize(
    "starts", [[start("running")], [start("admitted")], [start("withdrawn"), start("running")]]
)
def test_what_may_run_is_left_alone(outbox, c2, starts):
    c2.began["key-1"] = starts
    assert found_out(outbox, c2) == ("accepted", 12, False, [], 0)


@pytest.mark.parametrize(
    ("starts", "state"),
    [
        ([start("finished")], "COMPLETED"),
        ([start("failed", begun=True)], "FAILED"),
        ([start("cancelled", begun=False)], "CANCELLED"),
        ([start("timed_out", begun=True)], "TIMEOUT"),
        ([start("failed", begun=False), start("finished")], "COMPLETED"),  # the first was refused: it had run
        ([start("finished", key="key-1#0"), start("failed", begun=False, key="key-1#1")], "FAILED"),
    ],
)
def test_what_ran_is_over(outbox, c2, starts, state):
    c2.began["key-1"] = starts
    assert found_out(outbox, c2) == ("accepted", 12, True, [state], 0)


@pytest.mark.parametrize(
    ("starts", "found"),
    [
        ([], ("waiting", None, False, [], 1)),
        ([start("running")], ("accepted", 12, False, [], 0)),
        ([start("finished")], ("accepted", 12, True, ["COMPLETED"], 0)),
        ([start("cancelled", begun=False)], ("accepted", 12, True, ["CANCELLED"], 0)),
    ],
)
def test_what_slurmdbd_has_written_off_is_as_the_platform_knows(outbox, c2, starts, found):
    c2.booked = [job(12, "key-1", state="CANCELLED", source="slurmdbd")]
    c2.began["key-1"] = starts
    assert found_out(outbox, c2) == found


def test_what_somebody_has_cancelled_is_over(outbox, c2):
    c2.booked = [job(12, "key-1", state="CANCELLED", source="slurmdbd", cancelled_by="root")]
    assert found_out(outbox, c2) == ("accepted", 12, True, ["CANCELLED"], 0)


def test_without_a_platform_what_slurmdbd_has_written_off_is_over(outbox, c2):
    c2.has_job_manager = False
    c2.booked = [job(12, "key-1", state="CANCELLED", source="slurmdbd")]
    assert found_out(outbox, c2) == ("accepted", 12, True, ["CANCELLED"], 0)


def test_what_slurmctld_shows_after_all_is_not_lost(outbox, c2):
    c2.shown = [job(12, "key-1")]
    assert found_out(outbox, c2) == ("accepted", 12, False, [], 0)
    c2.shown = [job(13, "key-1"), job(12, "key-2")]
    assert found_out(outbox, c2) == ("accepted", 13, False, [], 0)


@pytest.mark.parametrize("comment", ["moved by ops", "", "qslurm -- key=key-2 by ops"])
def test_a_job_on_which_somebody_has_written_is_not_lost(outbox, c2, comment):
    c2.shown = [msgspec.structs.replace(job(12, ""), comment=comment)]
    assert found_out(outbox, c2) == ("accepted", 12, False, [], 0)
    c2.shown, c2.booked = (
        [],
        [msgspec.structs.replace(job(12, "", "CANCELLED", "slurmdbd", "root"), comment=comment)],
    )
    assert found_out(outbox, c2) == ("accepted", 12, True, ["CANCELLED"], 0)


@pytest.mark.parametrize(
    "other",
    [
        {"user": "center_b"},
        {"comment": "qslurm key=key-2"},
        {"comment": "moved by ops", "submit": 5},
        {"comment": "moved by ops", "job_id": 13},
    ],
)
def test_a_job_whose_id_another_has_is_lost(outbox, c2, other):
    c2.shown = [msgspec.structs.replace(job(12, ""), **other)]
    assert found_out(outbox, c2) == ("waiting", None, False, [], 1)


def test_what_is_lost_again_and_again_is_sent_twice_more_and_then_reported(outbox, c2, caplog):
    for job_id in (12, 13):
        outbox.mark_accepted(1, job_id, {})
        assert found_out(outbox, c2) == ("waiting", None, False, [], 1)
    outbox.mark_accepted(1, 14, {})
    assert found_out(outbox, c2) == ("lost", 14, True, ["FAILED"], 0)
    assert outbox.next_to_send() is None
    assert not outbox.has_open()
    assert {outbox.by_job(job_id).key for job_id in (12, 13, 14)} == {"key-1"}
    assert outbox.list_rows("ann", 9) == [(1, "key-1", 14, False)]
    assert "lost by C2, not resubmitted" in [record.getMessage() for record in caplog.records]


def test_what_slurmdbd_knows_to_be_over_is_over(outbox, c2):
    c2.booked = [job(12, "key-1", "COMPLETED", "slurmdbd")]
    assert found_out(outbox, c2) == ("accepted", 12, True, ["COMPLETED"], 0)


def test_where_the_platform_lets_nobody_in_nothing_is_sent_again(outbox, c2):
    c2.has_job_manager = False
    assert found_out(outbox, c2) == ("accepted", 12, False, [], 0)
    c2.has_job_manager = True
    outbox.add("key-2", "ann", {"job": {"partition": "cpu", "comment": "qslurm key=key-2"}})
    outbox.mark_accepted(2, 13, {})
    lost = Reconciler(outbox, lambda: None)
    lost.suspect(2, 0.0)
    lost.check(c2, LATER)
    assert outbox.by_number([2])[0].state == "accepted"
    c2.booked = [job(13, "key-2", state="CANCELLED", source="slurmdbd")]  # nobody knows better than slurmdbd
    assert [one.state for one in lost.check(c2, LATER + PAUSE_S)] == ["CANCELLED"]
    assert outbox.by_number([2])[0].ended


def test_looking_again_and_again_is_not_asking_again_and_again(outbox, c2):
    c2.began["key-1"] = [start("running")]
    lost = Reconciler(outbox, lambda: None)
    lost.suspect(1, 0.0)
    asked = []
    c2.jobs = lambda: asked.append(1) or []
    for step in range(100):
        lost.check(c2, LATER + step * PAUSE_S / 50)
    assert len(asked) == 2
    lost.clear(1)
    lost.check(c2, LATER + 10 * PAUSE_S)
    assert len(asked) == 2
