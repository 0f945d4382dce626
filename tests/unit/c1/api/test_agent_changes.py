"""Futures are settled as soon as the agent reports that their jobs have changed."""

from __future__ import annotations

import threading
from queue import SimpleQueue

import pytest

from qslurm.c1.api.agent_changes import ChangeListener
from qslurm.c1.api.job import Job
from qslurm.c1.api.job_watcher import JobWatcher
from qslurm.c1.api.result import Result
from qslurm.c1.connection.agent_messages import ChangedJobs
from qslurm.errors import InvalidInputError, UnreachableError
from tests.unit.jobs import job_info

PATIENCE_S = 60


class Agent:
    """Says what it is given to say; keeps the numbers that it was asked for."""

    def __init__(self):
        self.says, self.asked, self.closed = SimpleQueue(), SimpleQueue(), threading.Event()

    def changes_since(self, since, patience_s):
        self.asked.put(since)
        said = self.says.get(timeout=PATIENCE_S)
        if isinstance(said, Exception):
            raise said
        return said

    def close(self):
        self.closed.set()


@pytest.fixture
def agent():
    return Agent()


def test_a_future_is_settled_when_the_agent_says_that_its_job_has_changed(agent):
    known = {}
    watcher = JobWatcher(lambda job, _: known.get(job.id), delay=lambda _: 3600.0, first_delay_s=3600.0)
    listener = ChangeListener(lambda: agent, watcher.wake, lambda: watcher.is_waiting)
    first, second = Job(None, 1), Job(None, 2)
    for job in (first, second):
        watcher.add(job)
        listener.listen()
    assert agent.asked.get(timeout=PATIENCE_S) == 0
    agent.says.put(ChangedJobs(5, missed=True))
    assert agent.asked.get(timeout=PATIENCE_S) == 5
    known[2] = Result(2, "circuit")
    agent.says.put(ChangedJobs(6, [2, 77]))
    assert second.result(PATIENCE_S).job_id == 2
    assert not first.done()
    assert agent.asked.get(timeout=PATIENCE_S) == 6
    known[1] = Result(1, "circuit")
    agent.says.put(ChangedJobs(7, missed=True))
    assert first.result(PATIENCE_S).job_id == 1
    agent.says.put(ChangedJobs(8))  # if it has asked once more before the last job had ended
    assert agent.closed.wait(PATIENCE_S)
    watcher.close()


def test_the_state_that_comes_with_a_change_is_taken_without_another_query(agent):
    settled = SimpleQueue()

    def settle(job, reported):
        settled.put((job.id, [one.state for one in reported]))
        return Result(job.id, "circuit") if reported and reported[0].is_final else None

    watcher = JobWatcher(settle, delay=lambda _: 3600.0, first_delay_s=3600.0)
    listener = ChangeListener(lambda: agent, watcher.wake, lambda: watcher.is_waiting)
    job, other = Job(None, 1), Job(None, 2)
    watcher.add(job)
    watcher.add(other)
    listener.listen()
    agent.says.put(ChangedJobs(5, [1, 2], states=[job_info(job_id=1, state="RUNNING")]))
    assert sorted(settled.get(timeout=PATIENCE_S) for _ in range(2)) == [(1, ["RUNNING"]), (2, [])]
    agent.says.put(ChangedJobs(6, [1], states=[job_info(job_id=1, state="COMPLETED")]))
    assert job.result(PATIENCE_S).job_id == 1
    assert settled.get(timeout=PATIENCE_S) == (1, ["COMPLETED"])
    watcher.close()
    agent.says.put(ChangedJobs(6))
    assert agent.closed.wait(PATIENCE_S)


@pytest.mark.parametrize("said", [None, InvalidInputError("What is `moved`?")])
def test_where_nobody_tells_of_changes_nobody_is_asked_again(agent, said):
    listener = ChangeListener(lambda: agent, pytest.fail, lambda: True)
    agent.says.put(said)
    listener.listen()
    assert agent.closed.wait(PATIENCE_S)
    listener.listen()
    assert agent.asked.qsize() == 1


def test_an_agent_that_was_away_is_asked_from_the_beginning(agent):
    heard = SimpleQueue()
    wanted = threading.Event()
    wanted.set()
    listener = ChangeListener(lambda: agent, heard.put, wanted.is_set, retry_s=0.0)
    listener.listen()
    for said in (ChangedJobs(5), UnreachableError("away"), ChangedJobs(9, missed=True)):
        agent.says.put(said)
    assert heard.get(timeout=PATIENCE_S) is None
    wanted.clear()
    agent.says.put(ChangedJobs(9))
    assert agent.closed.wait(PATIENCE_S)
    assert [agent.asked.get(timeout=PATIENCE_S) for _ in range(3)] == [0, 5, 0]
