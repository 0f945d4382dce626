"""Cut connections, frozen daemons, and a full disk: each submission runs once."""

from __future__ import annotations

import time

import pytest
from counted_runs import CountingUser, runs
from faults import GIVES_UP_S, Agent
from people import frozen, operator

pytestmark = pytest.mark.slurm


@pytest.mark.parametrize("fault", ["before", "during", "after", "late"])
def test_a_link_that_is_cut_around_the_post_costs_nothing(fault, relay, alice, counter):
    left = [fault]

    def choose(line: str) -> str:
        return left.pop() if left and line.startswith("POST") else ""

    relay.choose = choose
    done = alice.types("submit", "count.sh", "--backend", "qx", "--wait", "--json")
    assert done.returncode == 0, done.stderr
    assert relay.done[fault] == 1
    assert runs(counter) == {0: 1}


@pytest.mark.parametrize("daemon", ["slurmrestd", "slurmctld-c2", "slurmdbd"])
def test_a_daemon_that_is_frozen_for_longer_than_the_agent_waits_costs_nothing(
    daemon, testbed, alice, counter, pool
):
    with frozen(testbed, daemon):
        waiting = pool.submit(alice.types, "submit", "count.sh", "--backend", "qx", "--wait", "--json")
        time.sleep(GIVES_UP_S + 1)  # the story is that the agent's patience ends first
    done = waiting.result()
    assert done.returncode == 0, done.stderr
    assert runs(counter) == {0: 1}


def test_a_full_disk_is_said_and_what_was_submitted_is_run_once_there_is_room(testbed, relay, counter):
    operator(testbed, "partition", "enable", "p_qx")
    agent = Agent(testbed, relay.port, room="8m")
    agent.start()
    try:
        alice = CountingUser(testbed, agent, counter)
        before = alice.submits("count.sh", "--backend", "qx")
        with agent.full_disk():
            refused = alice.types("submit", "count.sh", "--backend", "qx")
            assert refused.returncode == 1
            assert "disk" in refused.stderr
            assert alice.gets("show", str(before))["job_id"] == before
            agent.kill()
        agent.start()
        after = alice.submits("count.sh", "--backend", "qx")
        for job_id in (before, after):
            assert alice.ends_as(job_id) == "COMPLETED"
        assert runs(counter) == {0: 2}
    finally:
        agent.stop()
