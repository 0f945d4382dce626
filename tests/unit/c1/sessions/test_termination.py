"""A program that is told to end ends its session first, and then as it would have without one."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from qslurm.c1.api.session import Session
from qslurm.c1.sessions.termination import TERMINATING, TerminatedError, TerminationSignals


@pytest.fixture(autouse=True)
def usual() -> Iterator[None]:
    """Nobody here has a handler, but for the tests' own."""
    before = {number: signal.signal(number, signal.SIG_DFL) for number in TERMINATING}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def handlers() -> list[object]:
    return [signal.getsignal(number) for number in TERMINATING]


@pytest.mark.parametrize("number", TERMINATING)
def test_the_body_ends_first_and_then_the_process_by_the_same_signal(number: int) -> None:
    died: list[int] = []
    with pytest.raises(TerminatedError) as told, TerminationSignals(died.append):
        signal.raise_signal(number)
    assert (told.value.code, died) == (128 + number, [number])
    assert handlers() == [signal.SIG_DFL] * 2


def test_a_session_is_ended_with_the_reason_and_nothing_interrupts_that() -> None:
    died, concluded = [], []

    def conclude(*, final_result: str | None, failure: str, remark: str) -> bool:
        signal.raise_signal(signal.SIGTERM)  # said twice, as srun and slurmd do
        concluded.append(failure)
        return True

    client: Any = SimpleNamespace(over=None, conclude=conclude, close=lambda: None)
    session = Session(client, 12, signals=TerminationSignals(died.append))
    with pytest.raises(TerminatedError), session:
        signal.raise_signal(signal.SIGTERM)
    assert concluded == ["The program was terminated (SIGTERM)."]
    assert died == [signal.SIGTERM]


def test_what_is_told_while_a_session_ends_well_waits_for_that() -> None:
    died: list[int] = []
    with TerminationSignals(died.append) as ending:
        ending.defer()
        signal.raise_signal(signal.SIGTERM)
        assert died == []
    assert died == [signal.SIGTERM]


def test_a_programs_own_handlers_stay_as_they_are() -> None:
    heard: list[int] = []
    for number, own in zip(
        TERMINATING, (lambda number, _: heard.append(number), signal.SIG_IGN), strict=True
    ):
        signal.signal(number, own)
    before = handlers()
    with TerminationSignals(heard.append):
        assert handlers() == before
        for number in TERMINATING:
            signal.raise_signal(number)
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
    assert heard == [signal.SIGTERM]
    assert handlers() == [before[0], signal.SIG_DFL]


def test_one_that_is_set_meanwhile_is_not_taken_away() -> None:
    with TerminationSignals():
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    assert handlers() == [signal.SIG_IGN, signal.SIG_DFL]


def test_another_thread_has_none() -> None:
    seen: list[list[object]] = []

    def run() -> None:
        with TerminationSignals():
            seen.append(handlers())

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(60)
    assert seen == [[signal.SIG_DFL] * 2]


def test_a_forked_process_dies_as_ever() -> None:
    with TerminationSignals():
        child = os.fork()
        if not child:
            try:
                signal.raise_signal(signal.SIGTERM)
            finally:
                os._exit(0)
        _, status = os.waitpid(child, 0)
    assert os.WTERMSIG(status) == signal.SIGTERM
