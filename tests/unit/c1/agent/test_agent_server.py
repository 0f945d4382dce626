"""Connections to the agent, and how they end."""

import asyncio
import socket
from types import SimpleNamespace

import msgspec
import pytest

from qslurm.c1.agent import agent_server
from qslurm.c1.agent.change_log import of_job
from qslurm.c1.connection.agent_messages import (
    GetAgentStatus,
    GetTasks,
    Submission,
    Submit,
    encode,
    response_decoder,
)
from qslurm.errors import RefusedError
from qslurm.protocol.job_changes import visible_state
from qslurm.slurm.job_info import JobInfo
from qslurm.system.notifier import Notifier
from qslurm.wire.failures import Failed
from qslurm.wire.frames import NO_REQUEST, OVERHEAD, signed_frame

PATIENCE_S = 60


def question(about=None):
    return signed_frame(NO_REQUEST, encode(about or GetAgentStatus()), b"")


@pytest.mark.parametrize("size", [50_000, 5_000_000])
def test_an_answer_that_nobody_takes_is_not_kept_for_ever(monkeypatch, size):
    monkeypatch.setattr(agent_server, "RESPONSE_S", 0.1)
    monkeypatch.setattr(agent_server, "CLOSE_S", 0.1)

    async def story(ours, theirs):
        handler = SimpleNamespace(answer=lambda user, question: bytes(size))
        agent = agent_server.AgentServer(handler, Notifier(asyncio.get_running_loop()), munge=None)
        reader, writer = await asyncio.open_unix_connection(sock=ours)
        theirs.sendall(question())
        theirs.shutdown(socket.SHUT_WR)
        await asyncio.wait_for(agent.serve_local(reader, writer), PATIENCE_S)
        agent.close()
        assert agent._connections._counts.total() == 0

    ours, theirs = socket.socketpair()
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    with ours, theirs:
        asyncio.run(story(ours, theirs))


@pytest.mark.parametrize("levels", [1_000, 100_000])
def test_an_answer_that_is_nested_too_deeply_is_told_and_the_agent_does_not_hang_up(levels):
    deep = []
    for _ in range(levels):
        deep = [deep]

    async def story(ours, theirs):
        agent = agent_server.AgentServer(
            SimpleNamespace(answer=lambda user, question: deep),
            Notifier(asyncio.get_running_loop()),
            munge=None,
        )
        reader, writer = await asyncio.open_unix_connection(sock=ours)
        theirs.sendall(question())
        theirs.shutdown(socket.SHUT_WR)
        await asyncio.wait_for(agent.serve_local(reader, writer), PATIENCE_S)
        agent.close()

    ours, theirs = socket.socketpair()
    with ours, theirs:
        asyncio.run(story(ours, theirs))
        theirs.settimeout(PATIENCE_S)
        said = response_decoder.decode(theirs.recv(1 << 16)[OVERHEAD:])
    assert isinstance(said, Failed)
    assert "nested too deeply" in said.message


def waits(states, rings, patience_s=PATIENCE_S):
    """What who waits for a job is answered, which has one state at each look; and how often it was looked at."""
    jobs = [JobInfo(job_id=7, state=state) for state in states]
    looked = []

    async def story(ours, theirs):
        notifier = Notifier(asyncio.get_running_loop())

        def answer(user, question):
            looked.append(question)
            if rings:
                notifier.notify(of_job(7))  # it changes while somebody looks
            return [jobs.pop(0)]

        agent = agent_server.AgentServer(SimpleNamespace(answer=answer), notifier, munge=None)
        reader, writer = await asyncio.open_unix_connection(sock=ours)
        theirs.sendall(question(GetTasks(7, 7, visible_state(jobs[0]), patience_s)))
        theirs.shutdown(socket.SHUT_WR)
        await asyncio.wait_for(agent.serve_local(reader, writer), PATIENCE_S)
        agent.close()

    ours, theirs = socket.socketpair()
    with ours, theirs:
        asyncio.run(story(ours, theirs))
        theirs.settimeout(PATIENCE_S)
        answered = response_decoder.decode(theirs.recv(1 << 16)[OVERHEAD:])
    (job,) = msgspec.convert(answered.value, list[JobInfo])
    return job.state, len(looked)


def test_who_waits_for_a_job_is_answered_with_its_new_state_once_it_has_changed():
    assert waits(["PENDING", "RUNNING"], rings=True) == ("RUNNING", 2)


def test_who_waits_for_a_job_that_does_not_change_hears_so_in_the_end():
    assert waits(["PENDING", "PENDING"], rings=False, patience_s=0.05) == ("PENDING", 2)


def test_who_has_missed_a_change_is_answered_at_once():
    states = ["PENDING", "RUNNING"]
    jobs = [JobInfo(job_id=7, state=state) for state in states]
    looked = []

    async def story(ours, theirs):
        def answer(user, question):
            looked.append(question)
            return [jobs[1]]

        notifier = Notifier(asyncio.get_running_loop())
        agent = agent_server.AgentServer(SimpleNamespace(answer=answer), notifier, munge=None)
        reader, writer = await asyncio.open_unix_connection(sock=ours)
        theirs.sendall(question(GetTasks(7, 7, visible_state(jobs[0]), PATIENCE_S)))
        theirs.shutdown(socket.SHUT_WR)
        await asyncio.wait_for(agent.serve_local(reader, writer), PATIENCE_S / 2)
        agent.close()

    ours, theirs = socket.socketpair()
    with ours, theirs:
        asyncio.run(story(ours, theirs))
    assert len(looked) == 1


@pytest.mark.parametrize(
    "outcome", [Submission("accepted", 12, ["a warning"]), RefusedError("C2 refused the job.", hint="Why.")]
)
def test_a_waiting_submission_is_answered_with_its_outcome_without_another_look_up(outcome):
    handled = []

    async def story(ours, theirs):
        notifier = Notifier(asyncio.get_running_loop())

        def answer(user, request):
            handled.append(request)
            notifier.notify(("submission", request.key), value=outcome)  # C2 answers before anybody waits
            return Submission("waiting")

        agent = agent_server.AgentServer(SimpleNamespace(answer=answer), notifier, munge=None)
        reader, writer = await asyncio.open_unix_connection(sock=ours)
        theirs.sendall(question(Submit("key-1", {}, patience_s=PATIENCE_S)))
        theirs.shutdown(socket.SHUT_WR)
        await asyncio.wait_for(agent.serve_local(reader, writer), PATIENCE_S / 2)
        agent.close()

    ours, theirs = socket.socketpair()
    with ours, theirs:
        asyncio.run(story(ours, theirs))
        theirs.settimeout(PATIENCE_S)
        response = response_decoder.decode(theirs.recv(1 << 16)[OVERHEAD:])
    assert len(handled) == 1
    if isinstance(outcome, Submission):
        assert msgspec.convert(response.value, Submission) == outcome
    else:
        assert (response.kind, response.message, response.hint) == (
            outcome.kind,
            outcome.message,
            outcome.hint,
        )
