"""Exactly once, whatever the link does: C2 is a table that refuses a key it has, as job_submit.lua does."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qslurm.c1.agent.delivery import deliver, with_present_ids
from qslurm.errors import DuplicateError, RefusedError, UncertainError, UnreachableError
from qslurm.slurm.job_info import JobInfo
from qslurm.slurm.rest import Submitted
from tests.unit.jobs import job_info

FAULTS = ["none", "before", "after", "late"]


class Link:
    """C2 behind a link that loses requests (`before`), answers (`after`), or delivers a request later (`late`)."""

    def __init__(self, faults):
        self.faults = iter(faults)
        self.jobs = {}
        self.late = []

    def submit(self, payload):
        fault = next(self.faults, "none")
        if fault == "before":
            raise UnreachableError("no link")
        if fault == "late":
            self.late.append(payload["key"])
            raise UncertainError("no answer")
        self.arrive(payload["key"])
        if fault == "after":
            raise UncertainError("no answer")
        return Submitted(self.jobs[payload["key"]])

    def arrive(self, key):
        if key in self.jobs:
            raise DuplicateError("known")
        self.jobs[key] = 100 + len(self.jobs)

    def find_by_key(self, key):
        fault = next(self.faults, "none")
        if fault != "none":
            raise UnreachableError("no link")
        return JobInfo(job_id=self.jobs[key], name="x", state="PENDING") if key in self.jobs else None

    def catch_up(self):
        """What was under way comes in, whatever has happened since."""
        for key in self.late:
            if key not in self.jobs:
                self.arrive(key)
        self.late.clear()


def send(link, key, late_comes):
    unsure = False
    for attempt in range(200):
        try:
            return deliver(link, {"key": key}, key, maybe_sent=unsure).job_id
        except UncertainError:
            unsure = True
        except UnreachableError:
            pass
        if attempt in late_comes:
            link.catch_up()
    raise AssertionError("never sent")


@settings(max_examples=100)
@given(faults=st.lists(st.sampled_from(FAULTS), max_size=40), late_comes=st.sets(st.integers(0, 10)))
def test_a_submission_becomes_one_job_whatever_the_link_loses(faults, late_comes):
    link = Link(faults)
    job_ids = [send(link, key, late_comes) for key in ("first", "second")]
    link.catch_up()
    assert job_ids == [link.jobs["first"], link.jobs["second"]]
    assert len(link.jobs) == 2


def test_a_refusal_is_the_last_word():
    class Refusing(Link):
        def submit(self, payload):
            raise RefusedError("no such account")

    with pytest.raises(RefusedError):
        deliver(Refusing([]), {}, "key", maybe_sent=True)


def test_a_key_that_c2_knows_but_nobody_finds_stays_in_doubt():
    class Slow(Link):
        def submit(self, payload):
            raise DuplicateError("known")

    with pytest.raises(UncertainError):
        deliver(Slow([]), {}, "key", maybe_sent=False)


def test_slurmdbds_word_for_a_job_that_slurmctld_has_lost_is_no_acceptance():
    class Forgetful(Link):
        def find_by_key(self, key):
            return job_info(job_id=7, name="x", state="PENDING", source="slurmdbd")

    link = Forgetful([])
    assert deliver(link, {"key": "key"}, "key", maybe_sent=True) == Submitted(100)


def test_an_array_that_has_begun_is_found_as_the_array():
    class Begun(Link):
        def find_by_key(self, key):
            return job_info(job_id=13, name="x", state="RUNNING", array_job_id=12, array_task_id=0)

    assert deliver(Begun([]), {"key": "key"}, "key", maybe_sent=True) == Submitted(12)


def test_a_dependency_goes_by_the_ids_that_jobs_have_now():
    payload = {"job": {"dependency": "afterok:12:13,afterany:14"}}
    now = {12: 15, 13: 13, 14: 16}
    assert with_present_ids(payload, now.get)["job"]["dependency"] == "afterok:15:13,afterany:16"
    assert with_present_ids(payload, {12: 15, 13: 13}.get) is None
    assert with_present_ids({"job": {}}, {}.get) == {"job": {}}


def test_what_is_no_job_id_is_left_for_c2_to_refuse():
    payload = {"job": {"dependency": "afterok:99999999999999999999,afterok:12"}}
    assert with_present_ids(payload, {12: 15}.get)["job"]["dependency"] == (
        "afterok:99999999999999999999,afterok:15"
    )


def test_a_look_up_that_c2_refuses_says_nothing_about_the_submission():
    class Unwilling(Link):
        def find_by_key(self, key):
            raise RefusedError("C2 refused the accounting")

    with pytest.raises(UncertainError, match="refused the accounting"):
        deliver(Unwilling([]), {"key": "key"}, "key", maybe_sent=True)
