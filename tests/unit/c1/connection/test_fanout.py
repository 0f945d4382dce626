"""One question to several platforms: nobody is waited for in vain."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import pytest

from qslurm.c1.connection.fanout import query_each
from qslurm.errors import UnreachableError


class Platforms:
    """Some that say their number, when they are let."""

    def __init__(self, number):
        self.let = [threading.Event() for _ in range(number)]
        self.closed = []
        self.centers = [
            SimpleNamespace(place=place, close=lambda place=place: self.closed.append(place))
            for place in range(number)
        ]

    def say(self, center):
        assert self.let[center.place].wait(60)
        if center.place == 1:
            raise UnreachableError("away")
        return center.place


@pytest.fixture
def three():
    platforms = Platforms(3)
    yield platforms
    for event in platforms.let:
        event.set()


def test_answers_come_in_the_order_of_the_platforms_however_they_arrive(three):
    three.let[2].set()
    threading.Timer(0.01, lambda: [event.set() for event in three.let]).start()
    first, away, last = query_each(three.centers, three.say)
    assert (first, last) == (0, 2)
    assert isinstance(away, UnreachableError)


def test_what_is_enough_does_not_wait_for_those_behind_it(three):
    three.let[0].set()
    assert query_each(three.centers, three.say, enough=lambda place: place == 0) == [0]


def test_what_is_enough_waits_for_those_before_it(three):
    three.let[2].set()
    threading.Timer(0.01, lambda: [event.set() for event in three.let]).start()
    assert len(query_each(three.centers, three.say, enough=lambda place: place == 2)) == 3


def test_nobody_is_waited_for_for_ever(three):
    answers = query_each(three.centers, three.say, timeout_s=0.01)
    assert [str(answer).partition(" s.")[0] for answer in answers] == ["No answer from C2 for 0.01"] * 3


def test_what_nobody_expected_is_raised_where_somebody_hears_it():
    with pytest.raises(ZeroDivisionError):
        query_each([SimpleNamespace(close=lambda: None)], lambda _: 1 / 0)
