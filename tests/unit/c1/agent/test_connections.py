"""Nobody keeps the others from the agent: what each may have under way."""

import asyncio

import pytest

from qslurm.c1.agent.connections import (
    LARGE_AT_ONCE,
    MOST_OF_ONE,
    MOST_SILENT,
    TURNS,
    Connections,
    TooManyError,
)


class Writer:
    """A connection's; it knows whether it was sent away."""

    def __init__(self):
        self.transport = self
        self.is_gone = False

    def abort(self):
        self.is_gone = True


def enter(guests, whose, number, *, is_known):
    return [guests.enter(whose, Writer(), is_known=is_known) for _ in range(number)]


def gone(guests):
    return [guest for guest in guests if guest.writer.is_gone]


def test_one_user_has_so_many_connections_and_another_finds_room():
    guests = Connections()
    bobs = enter(guests, "bob", MOST_OF_ONE, is_known=True)
    with pytest.raises(TooManyError):
        guests.enter("bob", Writer(), is_known=True)
    enter(guests, "ann", 1, is_known=True)
    guests.leave(bobs[0])
    enter(guests, "bob", 1, is_known=True)


def test_who_says_nothing_gives_way_to_who_comes_later_on_the_same_host():
    guests = Connections()
    elsewhere = enter(guests, "node2", 5, is_known=False)
    silent = enter(guests, "node1", MOST_SILENT, is_known=False)
    anns = guests.enter("node1", Writer(), is_known=False)
    assert gone(silent) == silent[:1]
    guests.has_asked(anns)
    later = enter(guests, "node1", MOST_SILENT, is_known=False)
    guests.known_as(anns, "ann")
    enter(guests, "node1", MOST_SILENT, is_known=False)
    assert not gone([anns, *elsewhere])
    assert gone(silent + later) == silent + later


def test_when_there_is_no_room_at_all_the_silent_go_first():
    guests = Connections(most=4)
    silent = enter(guests, "node1", 2, is_known=False)
    known = enter(guests, "ann", 2, is_known=True)
    known += enter(guests, "bob", 2, is_known=True)
    with pytest.raises(TooManyError):
        guests.enter("eve", Writer(), is_known=True)
    assert gone(silent + known) == silent


def test_large_questions_and_turns_are_counted_for_each_user():
    async def story():
        guests = Connections()
        bobs, anns = (
            enter(guests, "bob", LARGE_AT_ONCE + 1, is_known=True),
            enter(guests, "ann", 1, is_known=True),
        )
        for guest in [*bobs[:-1], *anns]:
            await guests.large(guest)
        waits = asyncio.ensure_future(guests.large(bobs[-1]))
        await asyncio.sleep(0)
        assert not waits.done()
        guests.leave(bobs[0])
        await waits

        busy = [guests.turn(bobs[1], "c2") for _ in range(TURNS)]
        for turn in busy:
            await turn.__aenter__()
        for other in (guests.turn(bobs[1], "local"), guests.turn(anns[0], "c2")):
            async with other:
                pass
        third = asyncio.ensure_future(guests.turn(bobs[2], "c2").__aenter__())
        await asyncio.sleep(0)
        assert not third.done()
        await busy[0].__aexit__(None, None, None)
        await third

    asyncio.run(story())
