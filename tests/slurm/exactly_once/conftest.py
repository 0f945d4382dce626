"""An agent that reaches C2 through a relay, and a user whose scripts record their runs."""

import uuid

import pytest
from counted_runs import CountingUser, HeldScripts
from faults import Agent, Relay
from people import operator


@pytest.fixture
def relay(testbed):
    relay = Relay(testbed.ports["c2_slurmrestd"])
    yield relay
    relay.close()


@pytest.fixture
def agent(testbed, relay):
    for partition in ("p_qx", "p_spin2"):
        operator(testbed, "partition", "enable", partition)
    agent = Agent(testbed, relay.port)
    agent.start()
    yield agent
    agent.stop()


@pytest.fixture
def counter(testbed):
    """A file to which each run of a job appends its submission's number and its job id."""
    path = testbed.layout.folder / f"counter-{uuid.uuid4().hex}"
    path.write_text("")
    path.chmod(0o666)
    yield path
    testbed.c2(("scancel", "--user=center_snellius"))  # what a story that went wrong has left
    path.unlink()


@pytest.fixture
def alice(testbed, agent, counter):
    return CountingUser(testbed, agent, counter)


@pytest.fixture
def held(alice, counter):
    held = HeldScripts(alice, counter)
    yield held
    held.clean()
