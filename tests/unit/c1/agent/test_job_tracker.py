"""The agent hears how jobs are: by the job manager, and while that is away by slurmrestd."""

import queue
import threading
import time

import msgspec
import pytest

from qslurm.c1.agent import job_tracker
from qslurm.c1.agent.job_identity import is_outdated
from qslurm.c1.agent.job_tracker import JobTracker
from qslurm.c1.agent.outbox import Outbox
from qslurm.c1.agent.user_queue import list_queue
from qslurm.errors import UnknownJobError, UnreachableError
from qslurm.protocol.job_changes import ChangesPage
from qslurm.slurm.job_info import JobInfo
from qslurm.slurm.job_table import JobTable
from tests.unit.waiting import until

PAYLOAD = {"job": {"name": "bell", "comment": "qslurm key=later"}, "script": "#!/bin/sh\n"}


def row(job_id, state="PENDING", key="", array=0, tasks="", priority=5):
    user = "center_snellius"
    facts = (job_id, state, "", "p_qx", user, "s", "normal", 1, 0, 0, 0, 0, 5, array, tasks, priority)
    return msgspec.convert((*facts, "", "bell", f"qslurm key={key or f'key-{job_id}'}"), JobInfo)


class C2:
    """A job manager whose pages the test says, and a slurmrestd that counts what it is asked."""

    user = "center_snellius"
    has_job_manager = True

    def __init__(self):
        self.slurm = self.job_manager = self
        self.pages = queue.SimpleQueue()
        self.sinces = queue.SimpleQueue()
        self.listed = {}
        self.asked = []

    def changes(self, since, wait_s):
        self.sinces.put(since)
        page = self.pages.get(timeout=60)
        if isinstance(page, Exception):
            raise page
        return page

    def jobs(self):
        self.asked.append("jobs")
        return list(self.listed.values())

    def job(self, job_id):
        self.asked.append(job_id)
        if job_id not in self.listed:
            raise UnknownJobError("?")
        return self.listed[job_id]

    def places(self):
        return [(1, 9)]

    def close(self):
        pass


@pytest.fixture
def c2():
    return C2()


@pytest.fixture
def outbox(tmp_path):
    outbox = Outbox(tmp_path / "state")
    for number in (1, 2):
        outbox.mark_accepted(outbox.add(f"key-{number}", "ann", PAYLOAD).number, number, {})
    yield outbox
    outbox.close()


@pytest.fixture
def followed(outbox, c2, monkeypatch):
    """A tracker, and the ids of the jobs whose users it wakes."""
    monkeypatch.setattr(job_tracker, "PAUSE_S", 0.01)
    monkeypatch.setattr(job_tracker, "RETRY_S", 0.0)
    woken = queue.SimpleQueue()
    tracker = JobTracker(outbox, lambda: c2, lambda rows: [woken.put(row.job_id) for row in rows])
    tracker.start()
    yield tracker, lambda: woken.get(timeout=60)
    c2.pages.put(UnreachableError("over"))
    c2.pages.put(UnreachableError("over"))
    tracker.stop()


def test_a_change_wakes_its_user_without_a_question_to_slurmrestd(followed, c2, outbox):
    tracker, woken = followed
    c2.pages.put(ChangesPage(since="a", reset=True, jobs=[row(1), row(2)]))
    assert {woken(), woken()} == {1, 2}
    c2.pages.put(ChangesPage(since="b", jobs=[row(2, "RUNNING")]))
    assert woken() == 2
    assert (tracker.job(2).state, tracker.job(1).state) == ("RUNNING", "PENDING")
    c2.pages.put(ChangesPage(since="c", jobs=[row(1, "COMPLETED")]))
    assert woken() == 1
    c2.pages.put(ChangesPage(since="d", gone=[1], jobs=[row(2, "FAILED")]))
    assert woken() == 2
    assert [c2.sinces.get(timeout=60) for _ in range(4)] == ["", "a", "b", "c"]
    c2.pages.put(ChangesPage(since="e"))
    until(lambda: not outbox.has_open())  # it is being written down
    assert c2.asked == []


def test_while_the_job_manager_is_away_slurmrestd_is_asked_and_then_not_any_more(followed, c2, caplog):
    tracker, woken = followed
    caplog.set_level("INFO")
    c2.listed = {1: row(1), 2: row(2)}
    c2.pages.put(UnreachableError("no job manager"))
    assert {woken(), woken()} == {1, 2}
    c2.listed[2] = row(2, "RUNNING")
    for _ in range(3):
        c2.pages.put(UnreachableError("no job manager"))
    assert woken() == 2
    assert not tracker.is_live
    c2.pages.put(ChangesPage(since="a", reset=True, jobs=[row(1), row(2, "COMPLETED")]))
    assert woken() == 2
    assert tracker.is_live
    said = [record.getMessage() for record in caplog.records]
    assert said.count("cannot follow C2's job manager; polling slurmrestd instead") == 1
    assert said.count("following C2's job manager") == 1


def test_a_job_that_the_job_manager_does_not_tell_of_is_looked_up(followed, c2, outbox, monkeypatch):
    tracker, woken = followed
    c2.listed = {2: row(2, "COMPLETED")}  # it ended long ago, while nobody followed
    c2.pages.put(ChangesPage(since="a", reset=True, jobs=[row(1)]))
    assert {woken(), woken()} == {1, 2}
    c2.pages.put(ChangesPage(since="b"))
    assert tracker.job(2).state == "COMPLETED"


@pytest.mark.parametrize("state", ["PENDING", "RUNNING", "CANCELLED"])
def test_a_job_that_only_slurmdbd_shows_is_looked_at_again(followed, c2, outbox, monkeypatch, state):
    """It may run on though slurmctld has forgotten it; once in the table it would count as shown by C2, for ever."""
    tracker, woken = followed
    monkeypatch.setattr(job_tracker, "MISSING_S", 0.0)
    c2.job = lambda job_id: (
        c2.asked.append(job_id) or msgspec.structs.replace(row(job_id, state), from_slurmdbd=True)
    )
    c2.starts = lambda key: [{"state": "running", "started_at": 1, "key": key, "kind": "script"}]
    c2.pages.put(ChangesPage(since="a", reset=True, jobs=[row(1)]))
    assert woken() == 1

    def is_asked_again():
        c2.pages.put(ChangesPage(since="b"))
        return c2.asked.count(2) >= 2

    until(is_asked_again)
    assert tracker.job(2) is None
    assert not outbox.by_number([2])[0].ended


def test_a_job_that_was_over_before_it_was_known_to_be_on_c2_has_ended(followed, c2, outbox, monkeypatch):
    """The answer to its submission was lost, and it was found by its key when C2's news were through."""
    _, woken = followed
    monkeypatch.setattr(job_tracker, "MISSING_S", 0.0)
    entry = outbox.add("key-3", "ann", PAYLOAD)
    c2.pages.put(ChangesPage(since="a", reset=True, jobs=[row(1), row(2), row(3, "COMPLETED")]))
    assert {woken(), woken(), woken()} == {1, 2, 3}
    outbox.mark_accepted(entry.number, 3, {})

    def has_ended():
        c2.pages.put(ChangesPage(since="b"))
        return outbox.by_number([entry.number])[0].ended

    until(has_ended)
    assert c2.asked == []


def test_a_job_whose_comment_somebody_has_written_over_is_followed_on(followed, c2, outbox):
    """By the job manager and by slurmrestd: its id says whose it is."""
    tracker, woken = followed
    comment = "qslurm key=key-3 kind=script"
    entry = outbox.add("key-3", "ann", {"job": {"comment": comment}})
    outbox.mark_accepted(entry.number, 3, {})
    moved = msgspec.structs.replace(row(3), comment="moved by ops", submit=int(time.time()))
    c2.pages.put(ChangesPage(since="a", reset=True, jobs=[row(1), row(2), moved]))
    assert {woken(), woken(), woken()} == {1, 2, 3}
    assert tracker.job(3).marks.key == "key-3"
    c2.pages.put(UnreachableError("no job manager"))
    c2.listed = {1: row(1), 2: row(2), 3: msgspec.structs.replace(moved, state="RUNNING")}
    assert woken() == 3
    c2.pages.put(
        ChangesPage(
            since="b", reset=True, jobs=[row(1), row(2), msgspec.structs.replace(moved, state="COMPLETED")]
        )
    )
    assert woken() == 3
    c2.pages.put(ChangesPage(since="c"))
    until(lambda: outbox.by_number([entry.number])[0].ended)


def test_the_agent_ends_while_a_question_waits(outbox, c2, monkeypatch):
    monkeypatch.setattr(job_tracker, "STOP_S", 0.05)
    tracker = JobTracker(outbox, lambda: c2, lambda _: None)
    tracker.start()
    c2.sinces.get(timeout=60)
    stopping = threading.Thread(target=tracker.stop)
    stopping.start()
    stopping.join(60)
    assert not stopping.is_alive()
    c2.pages.put(ChangesPage(since="a", reset=True, jobs=[row(1)]))
    tracker._thread.join(60)
    assert tracker.jobs.jobs() == []


def test_an_array_has_ended_when_all_its_tasks_have(followed, c2, outbox):
    _, woken = followed
    tasks = [row(1, "PENDING", "key-1", 1, "2-3"), row(5, "COMPLETED", "key-1", 1, "1")]
    c2.pages.put(ChangesPage(since="a", reset=True, jobs=[row(2), *tasks]))
    assert {woken(), woken(), woken()} == {1, 2, 5}
    assert len(outbox.open_jobs()) == 2
    c2.pages.put(
        ChangesPage(since="b", jobs=[row(1, "COMPLETED", "key-1", 1, "3"), row(6, "FAILED", "key-1", 1, "2")])
    )
    assert {woken(), woken()} == {1, 6}
    c2.pages.put(ChangesPage(since="c"))
    until(lambda: len(outbox.open_jobs()) < 2)  # it is being written down


def test_a_job_that_is_over_is_not_said_to_run_by_news_that_come_late():
    table = JobTable(is_outdated)
    table.apply([row(1, "COMPLETED")])
    assert table.apply([row(1, "RUNNING")], reset=True) == []
    assert table.job(1).state == "COMPLETED"
    again = msgspec.structs.replace(row(1), restart_count=1)
    assert table.apply([again]) == [(row(1, "COMPLETED"), again)]


def test_the_list_has_all_open_jobs_of_a_user_with_places_among_all(outbox, c2):
    tracker = JobTracker(outbox, lambda: c2, lambda _: None)
    tracker.jobs.apply([row(1), row(77)])
    outbox.add("later", "ann", PAYLOAD)
    outbox.add("bobs", "bob", PAYLOAD)
    waits = JobInfo(job_id=0, name="bell", state="PENDING", reason="Outbox")

    def listed(user):
        line = list_queue(user, outbox, tracker, c2, lambda entry: waits)
        return [(one.job_id, one.state) for one in line.jobs], line.places

    assert listed("ann") == ([(1, "PENDING"), (0, "PENDING"), (0, "PENDING")], [(1, 1)])
    assert listed("bob") == ([(0, "PENDING")], [])
    tracker.is_live = True
    assert listed("ann")[1] == [(1, 9)]
