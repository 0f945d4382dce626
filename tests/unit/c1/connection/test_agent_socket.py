"""One question after the other, whatever becomes of the one before."""

from __future__ import annotations

import socket

import pytest

from qslurm.c1.config.settings import AgentSettings
from qslurm.c1.connection.agent_messages import (
    MAX_RESPONSE_BYTES,
    AgentStatus,
    Answered,
    GetAgentStatus,
    encode,
)
from qslurm.c1.connection.agent_socket import AgentSocket
from qslurm.errors import UnreachableError
from qslurm.slurm.job_info import JobInfo
from qslurm.wire.blocking import BlockingConnection
from qslurm.wire.frames import frame


@pytest.fixture
def ends():
    """A link that is connected, and the agent's end of it."""
    link = AgentSocket(AgentSettings(socket="agent.sock"), 5.0)
    ours, agent = socket.socketpair()
    link._link = BlockingConnection(ours, MAX_RESPONSE_BYTES)
    yield link, agent
    link.close()
    agent.close()


def answer(value):
    return frame(1, encode(Answered(value)))


def test_who_was_interrupted_does_not_read_the_last_answer_as_that_to_the_next_question(ends, monkeypatch):
    link, agent = ends

    def interrupted(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(link._link, "receive", interrupted)
        link.ask(GetAgentStatus(), AgentStatus)
    assert agent.recv(65536)  # it was asked, and may answer when it likes
    assert link._link is None


def test_an_agent_that_means_something_else_is_no_bug_of_the_command(ends):
    link, agent = ends
    agent.sendall(answer({"job_id": "twelve"}))
    with pytest.raises(UnreachableError, match="Install the same version of qslurm"):
        link.ask(GetAgentStatus(), JobInfo)
