from __future__ import annotations

from qslurm.system.backoff import Backoff


def test_each_failure_doubles_the_pause_up_to_a_limit() -> None:
    backoff = Backoff(0.5, 3.0)
    assert [backoff.fail() for _ in range(5)] == [0.5, 1.0, 2.0, 3.0, 3.0]
    assert backoff.failures == 5


def test_a_success_begins_anew() -> None:
    backoff = Backoff(0.5, 3.0)
    backoff.fail()
    backoff.fail()
    backoff.succeed()
    assert (backoff.failures, backoff.fail()) == (0, 0.5)


def test_the_first_of_all_may_be_followed_by_no_pause() -> None:
    backoff = Backoff(0.5, 3.0, at_once=True)
    assert [backoff.fail() for _ in range(4)] == [0.0, 0.5, 1.0, 2.0]


def test_many_thousand_failures_are_no_overflow() -> None:
    backoff = Backoff(0.5, 3.0)
    backoff.failures = 1_000_000
    assert backoff.fail() == 3.0
