"""What `qslurm queue` shows of the follow-ups that C1 holds."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from qslurm.c1.config.settings import AgentSettings, Config
from qslurm.c1.followups.c1_queue import HeldFollowUp
from qslurm.c1.followups.followup_list import FollowUpJob, start_query
from qslurm.c1.followups.followup_submission import Mark
from qslurm.errors import UnreachableError
from tests.unit.jobs import job_info

KEYS = ["a" * 32, "b" * 32, "c" * 32]


class Queue:
    """C1's, with three follow-ups and one of another platform."""

    def __init__(self):
        self.asked = []

    def held(self, user):
        self.asked.append(user)
        marks = [*(Mark(key, "ok", "c2") for key in KEYS), Mark(KEYS[0], "any", "tuna")]
        return [HeldFollowUp(90 + number, "ann", mark) for number, mark in enumerate(marks)]


def shown(agent, *jobs):
    queue = Queue()
    center = SimpleNamespace(config=Config(agent=agent), follow_up_platform="c2")
    return start_query(center, lambda: queue)(jobs), queue.asked


def job(job_id, key, **facts):
    return job_info(job_id=job_id, name="bell", state="PENDING", comment=f"qslurm key={key}", **facts)


def test_a_follow_up_is_shown_with_the_job_or_the_array_that_it_follows():
    agent = AgentSettings(socket="/run/agent.sock")
    found, _ = shown(agent, job(12, KEYS[0]), job(15, KEYS[1], array_job_id=14, array_task_id=1))
    assert found == [FollowUpJob(90, "ann", 12, "ok"), FollowUpJob(91, "ann", 14, "ok")]


def test_c1s_queue_is_not_asked_where_nobody_releases_follow_ups():
    assert shown(AgentSettings(), job(12, KEYS[0])) == ([], [])


def test_a_queue_that_can_not_be_read_is_said_where_its_jobs_would_be_shown():
    class Away:
        def held(self, user):
            raise UnreachableError("This cluster's slurmctld is unreachable.")

    center = SimpleNamespace(config=Config(agent=AgentSettings(socket="/run/agent.sock")))
    followers = start_query(center, Away)
    with pytest.raises(UnreachableError):
        followers([job(12, KEYS[0])])
