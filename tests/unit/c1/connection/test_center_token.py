"""When a token is renewed, by whose clock, and what is no answer."""

from __future__ import annotations

import json
from base64 import urlsafe_b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qslurm.c1.connection.center_token import (
    SHARE,
    SPREAD,
    C2Clock,
    due,
    ends_soon,
    fresh_token,
    renewable_until,
)
from qslurm.errors import TokenError, UnknownJobError, UnreachableError
from qslurm.tokens.claims import Claims, inspect

NOW = 1_800_000_000


def token(issued=NOW, life=100, user="center_a", key="a"):
    parts = ({"alg": "RS256", "kid": key}, {"sun": user, "iat": issued, "exp": issued + life})
    return (
        ".".join(urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts) + ".sig"
    )


def claims(**changes):
    return inspect(token(**changes))


class Platform:
    """A job manager that answers as it is told."""

    def __init__(self, answer, time=NOW):
        self.answer, self.time = answer, time

    def renewal(self, *, only_look):
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def clock(self):
        if self.time is None:
            raise UnreachableError("Away.")
        return float(self.time)


@given(
    issued=st.integers(0, 2**33),
    life=st.integers(60, 400 * 86400),
    chance=st.floats(0, 1),
)
def test_it_is_renewed_after_four_fifths_and_high_time_comes_before_the_end(issued, life, chance):
    renew_at, late_at = due(claims(issued=issued, life=life), issued=0, chance=chance)
    assert SHARE - SPREAD - 1e-9 <= (renew_at - issued) / life <= SHARE + 1e-9
    assert late_at - renew_at == pytest.approx(issued + life - late_at, abs=1e-3)


def test_a_token_that_does_not_say_when_it_was_issued_counts_from_when_it_was_seen():
    said = Claims(user="a", issued=None, expires=NOW + 100, key_id="", algorithm="RS256")
    assert due(said, issued=NOW, chance=0)[0] == NOW + 80
    endless = Claims(user="a", issued=NOW, expires=None, key_id="", algorithm="RS256")
    assert due(endless, issued=NOW, chance=0)[0] == float("inf")


@pytest.mark.parametrize(("until", "soon"), [(NOW + 150, True), (NOW + 200, False), (None, False)])
def test_renewals_that_end_before_the_next_tokens_life_does_are_worth_a_word(until, soon):
    assert ends_soon(claims(), until) is soon


def test_a_new_token_is_taken_for_the_same_center_only_and_if_it_lives_longer():
    fresh = fresh_token(Platform({"token": token(NOW + 80), "renewable_until": NOW + 500}), claims())
    assert (fresh.claims.expires, fresh.until) == (NOW + 180, NOW + 500)
    assert token(NOW + 80) not in repr(fresh)


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"token": None},
        {"token": ""},
        {"token": "<html>"},
        {"token": ["a.b.c"]},
        {"token": "a.b.c d.e.f"},
        {"token": token(NOW + 80, user="center_b")},
        {"token": token(NOW + 80, key="b")},
        {"token": token(NOW)},
        {"token": token(NOW - 50)},
    ],
)
def test_what_is_no_new_token_of_ours_is_not_taken(answer):
    with pytest.raises(UnreachableError) as error:
        fresh_token(Platform(answer), claims())
    assert "." not in str(error.value).replace(". ", "").rstrip(".")  # no token in it


@pytest.mark.parametrize("until", [None, "soon", True, -1, 2**60, 1.5])
def test_an_end_of_renewals_that_is_no_time_is_none(until):
    assert renewable_until(Platform({"renewable_until": until})) is None


def test_a_c2_of_before_says_that_it_does_not_renew():
    with pytest.raises(TokenError, match="does not renew"):
        renewable_until(Platform(UnknownJobError("Not found.")))


class Machine:
    """A wall clock and one that only goes forward."""

    def __init__(self, wall, steady=50.0):
        self.wall, self.steady = wall, steady

    def clock(self):
        return C2Clock(lambda: self.wall, lambda: self.steady)

    def goes_on(self, seconds):
        self.wall += seconds
        self.steady += seconds


@pytest.mark.parametrize("off", [-600, 600, 10**8])
def test_a_clock_that_is_off_does_not_matter_once_c2_was_asked(off):
    machine = Machine(NOW + off)
    clock = machine.clock()
    assert clock.now() == NOW + off
    clock.set_by(Platform({}), every_s=3600)
    assert abs(clock.now() - NOW) <= 1
    machine.goes_on(100)
    machine.wall -= 5000  # somebody sets it
    assert abs(clock.now() - NOW - 100) <= 1
    assert abs(clock.off() - (off - 5000)) <= 1


def test_c2_is_asked_for_its_time_now_and_then_and_its_silence_changes_nothing():
    machine = Machine(NOW - 600)
    clock = machine.clock()
    clock.set_by(Platform({}, time=None), every_s=3600)
    assert clock.now() == NOW - 600
    clock.set_by(Platform({}), every_s=3600)
    clock.set_by(Platform({}, time=NOW + 77), every_s=3600)  # too soon
    assert abs(clock.now() - NOW) <= 1
    machine.goes_on(3600)
    clock.set_by(Platform({}, time=NOW + 3677), every_s=3600)
    assert abs(clock.now() - NOW - 3677) <= 1
