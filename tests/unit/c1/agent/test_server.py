"""Connections to the agent, and how they end."""

import asyncio
import socket
from types import SimpleNamespace

import pytest

from qslurm.c1.agent import server
from qslurm.c1.connection.agent_messages import GetStatus, answers, encode
from qslurm.system.notifier import Notifier
from qslurm.wire.failures import Failed
from qslurm.wire.frames import NO_REQUEST, OVERHEAD, signed_frame

PATIENCE_S = 60


def question():
    return signed_frame(NO_REQUEST, encode(GetStatus()), b"")


@pytest.mark.parametrize("size", [50_000, 5_000_000])
def test_an_answer_that_nobody_takes_is_not_kept_for_ever(monkeypatch, size):
    monkeypatch.setattr(server, "TAKE_S", 0.1)
    monkeypatch.setattr(server, "CLOSE_S", 0.1)

    async def story(ours, theirs):
        desk = SimpleNamespace(answer=lambda user, question: bytes(size))
        agent = server.Server(desk, Notifier(asyncio.get_running_loop()), munge=None)
        reader, writer = await asyncio.open_unix_connection(sock=ours)
        theirs.sendall(question())
        theirs.shutdown(socket.SHUT_WR)
        await asyncio.wait_for(agent.by_socket(reader, writer), PATIENCE_S)
        agent.close()
        assert agent._guests._count.total() == 0

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
        agent = server.Server(
            SimpleNamespace(answer=lambda user, question: deep),
            Notifier(asyncio.get_running_loop()),
            munge=None,
        )
        reader, writer = await asyncio.open_unix_connection(sock=ours)
        theirs.sendall(question())
        theirs.shutdown(socket.SHUT_WR)
        await asyncio.wait_for(agent.by_socket(reader, writer), PATIENCE_S)
        agent.close()

    ours, theirs = socket.socketpair()
    with ours, theirs:
        asyncio.run(story(ours, theirs))
        theirs.settimeout(PATIENCE_S)
        said = answers.decode(theirs.recv(1 << 16)[OVERHEAD:])
    assert isinstance(said, Failed)
    assert "nested too deeply" in said.message
