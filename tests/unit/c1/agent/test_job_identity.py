"""A job on which no key stands any more is known by its id, its user and its time, and never taken for another."""

from __future__ import annotations

import msgspec
import pytest

from qslurm.c1.agent.job_identity import SKEW_S, job_of, with_key_restored
from qslurm.c1.agent.outbox import Outbox
from tests.unit.jobs import job_info

SAID = "qslurm key=key-1 kind=script backend=qx origin=shell:c1::ann"


@pytest.fixture
def outbox(tmp_path):
    outbox = Outbox(tmp_path)
    job = {"partition": "p_qx", "comment": f"{SAID} -- mine"}
    outbox.mark_accepted(outbox.add("key-1", "ann", {"job": job}).number, 12, {})
    yield outbox
    outbox.close()


@pytest.fixture
def row(outbox):
    """The job as C2 shows it, on which somebody has written."""
    return job_info(
        job_id=12,
        state="PENDING",
        reason="",
        partition="p_qx",
        user="center_a",
        account="a",
        qos="",
        submit=int(outbox.by_job(12).accepted),
        start=0,
        end=0,
        status=0,
        restart_count=0,
        limit_minutes=0,
        array_job=0,
        array_index="",
        priority=1,
        comment="moved by ops",
    )


OURS = {
    "written over": {},
    "written over in both places": {"admin_comment": "watched"},
    "emptied": {"comment": ""},
    "said by slurmdbd, which does not know when": {"submit": 0},
    "a task of our array": {"job_id": 15, "array_job": 12, "array_index": "3"},
    "with our key": {"job_id": 99, "comment": SAID},
    "with our key in its other place": {"job_id": 99, "admin_comment": SAID},
    "renamed and moved": {"name": "other", "partition": "p_spin2", "priority": 0, "limit_minutes": 1},
}
OTHERS = {
    "with another key": {"comment": "qslurm key=key-2"},
    "with another key in its other place": {"admin_comment": "qslurm key=key-2"},
    "with another id": {"job_id": 13},
    "a task of another array": {"array_job": 11, "array_index": "3"},
}


@pytest.mark.parametrize("change", OURS.values(), ids=OURS)
def test_a_job_that_was_written_on_is_still_its_submissions(outbox, row, change):
    job = msgspec.structs.replace(row, **change)
    shown, told = with_key_restored(job, outbox), job_of(outbox.by_job(12), job)
    assert [(one.marks.key, one.marks.origin) for one in (shown, told)] == [("key-1", "shell:c1::ann")] * 2


@pytest.mark.parametrize("change", OTHERS.values(), ids=OTHERS)
def test_another_job_is_not_taken_for_it(outbox, row, change):
    job = msgspec.structs.replace(row, **change)
    assert with_key_restored(job, outbox) == job
    assert job_of(outbox.by_job(12), job) is None


def test_a_job_that_has_its_id_but_was_submitted_at_another_time_is_another(outbox, row):
    entry = outbox.by_job(12)
    for submit, restarts, is_ours in [
        (entry.created - SKEW_S - 2, 0, False),
        (entry.created - SKEW_S + 2, 0, True),
        (entry.accepted + SKEW_S - 2, 0, True),
        (entry.accepted + SKEW_S + 2, 0, False),
        (entry.accepted + 99_999, 1, True),  # it was put back into the queue
    ]:
        job = msgspec.structs.replace(row, submit=int(submit), restart_count=restarts)
        assert bool(with_key_restored(job, outbox).marks.key) == is_ours
        assert (job_of(entry, job) is not None) == is_ours


def test_a_job_that_came_after_the_one_that_was_seen_is_another(outbox, row):
    before = msgspec.structs.replace(row, comment=SAID)
    again = msgspec.structs.replace(row, submit=row.submit + 1)
    assert not with_key_restored(again, outbox, before).marks.key
    assert with_key_restored(row, outbox, before).marks.key == "key-1"
    assert (
        with_key_restored(msgspec.structs.replace(again, restart_count=1), outbox, before).marks.key
        == "key-1"
    )


def test_what_is_written_on_a_job_stays_readable(outbox, row):
    shown = with_key_restored(msgspec.structs.replace(row, admin_comment="watched"), outbox)
    assert (shown.marks.note, shown.comment, shown.admin_comment) == (
        "moved by ops",
        "moved by ops",
        f"{SAID} -- watched",
    )
