"""Nobody keeps the others from the agent: what each may have under way."""

import asyncio

import pytest

from qslurm.c1.agent.client_connections import (
    MAX_LARGE,
    MAX_PER_OWNER,
    MAX_THREADS,
    MAX_UNAUTHENTICATED,
    ClientConnections,
    TooManyConnectionsError,
)


class Writer:
    """A connection's; it knows whether it was sent away."""

    def __init__(self):
        self.transport = self
        self.is_gone = False

    def abort(self):
        self.is_gone = True


def enter(connections, owner, number, *, is_authenticated):
    return [connections.add(owner, Writer(), is_authenticated=is_authenticated) for _ in range(number)]


def gone(connections):
    return [connection for connection in connections if connection.writer.is_gone]


def test_one_user_has_so_many_connections_and_another_finds_room():
    connections = ClientConnections()
    bobs = enter(connections, "bob", MAX_PER_OWNER, is_authenticated=True)
    with pytest.raises(TooManyConnectionsError):
        connections.add("bob", Writer(), is_authenticated=True)
    enter(connections, "ann", 1, is_authenticated=True)
    connections.remove(bobs[0])
    enter(connections, "bob", 1, is_authenticated=True)


def test_who_says_nothing_gives_way_to_who_comes_later_on_the_same_host():
    connections = ClientConnections()
    elsewhere = enter(connections, "node2", 5, is_authenticated=False)
    silent = enter(connections, "node1", MAX_UNAUTHENTICATED, is_authenticated=False)
    anns = connections.add("node1", Writer(), is_authenticated=False)
    assert gone(silent) == silent[:1]
    connections.authenticating(anns)
    later = enter(connections, "node1", MAX_UNAUTHENTICATED, is_authenticated=False)
    connections.authenticated_as(anns, "ann")
    enter(connections, "node1", MAX_UNAUTHENTICATED, is_authenticated=False)
    assert not gone([anns, *elsewhere])
    assert gone(silent + later) == silent + later


def test_when_there_is_no_room_at_all_the_silent_go_first():
    connections = ClientConnections(limit=4)
    silent = enter(connections, "node1", 2, is_authenticated=False)
    known = enter(connections, "ann", 2, is_authenticated=True)
    known += enter(connections, "bob", 2, is_authenticated=True)
    with pytest.raises(TooManyConnectionsError):
        connections.add("eve", Writer(), is_authenticated=True)
    assert gone(silent + known) == silent


def test_large_questions_and_turns_are_counted_for_each_user():
    async def story():
        connections = ClientConnections()
        bobs, anns = (
            enter(connections, "bob", MAX_LARGE + 1, is_authenticated=True),
            enter(connections, "ann", 1, is_authenticated=True),
        )
        for connection in [*bobs[:-1], *anns]:
            await connections.reserve_memory(connection)
        waits = asyncio.ensure_future(connections.reserve_memory(bobs[-1]))
        await asyncio.sleep(0)
        assert not waits.done()
        connections.remove(bobs[0])
        await waits

        busy = [connections.thread(bobs[1], "c2") for _ in range(MAX_THREADS)]
        for turn in busy:
            await turn.__aenter__()
        for other in (connections.thread(bobs[1], "local"), connections.thread(anns[0], "c2")):
            async with other:
                pass
        third = asyncio.ensure_future(connections.thread(bobs[2], "c2").__aenter__())
        await asyncio.sleep(0)
        assert not third.done()
        await busy[0].__aexit__(None, None, None)
        await third

    asyncio.run(story())
