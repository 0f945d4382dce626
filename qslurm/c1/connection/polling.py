"""Polls a job on C2 until it ends: how often, and how long an unreachable C2 is tolerated."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar

from qslurm.errors import TimedOutError, UnknownJobError, UnreachableError

FIRST_DELAY_S = 0.25
LONGEST_DELAY_S = 10.0
PATIENCE_S = 120.0
"""Seconds without an answer after which a wait gives up; the job continues."""


class Waitable(Protocol):
    """What can be waited for: a job, or several."""

    @property
    def is_final(self) -> bool:
        """Whether it has ended."""

    @property
    def word(self) -> str:
        """Its state, as text."""

    @property
    def why(self) -> str:
        """The reason for its state."""


Thing = TypeVar("Thing", bound=Waitable)


@dataclass(frozen=True)
class Poll:
    """The result of one poll: the job, or for how many seconds C2 has not answered, and why (`unheard`)."""

    job: Waitable | None
    silent_s: float
    waited_s: float
    unheard: str = ""


class OutageReporter:
    """Reports once that C2 does not answer, and once that it answers again."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._silent = False

    def unheard(self, why: str) -> None:
        """Report that C2 has not answered; `why` is a sentence."""
        if not self._silent:
            self._silent = True
            self._say(f"{why} Retrying for at most {PATIENCE_S:g} s; the job continues.")

    def heard(self) -> None:
        """Report that C2 has answered."""
        if self._silent:
            self._silent = False
            self._say("C2 is reachable again.")


def next_delay(waited_s: float) -> float:
    """Seconds until the next poll: a tenth of the time waited so far, within bounds.

    So a job of a few seconds is seen within a fraction of one, and a job of an hour costs C2 six questions a minute.
    """
    return min(LONGEST_DELAY_S, max(FIRST_DELAY_S, waited_s / 10))


def wait_until_final(
    ask: Callable[[], Thing],
    *,
    on_poll: Callable[[Poll], None],
    timeout_s: float | None = None,
    what: str = "The job",
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
    delay: Callable[[float], float] = next_delay,
) -> Thing:
    """Poll until the job has ended, and return it.

    `delay` says how long to sleep, by the seconds waited so far.

    `on_poll` is told of every look. An unreachable C2 is tolerated for PATIENCE_S (then UnreachableError);
    TimedOutError, with `what` as its subject, after `timeout_s`.
    """
    start = heard = clock()
    while True:
        try:
            job = ask()
        except UnreachableError as error:
            unheard, silent = error.message, clock() - heard
            if silent > PATIENCE_S:
                raise UnreachableError(
                    f"C2 has not answered for {silent:.0f} s; the job continues. {unheard}",
                    hint=error.hint,
                ) from error
            on_poll(Poll(None, silent, clock() - start, unheard))
        else:
            unheard, heard = "", clock()
            on_poll(Poll(job, 0.0, heard - start))
            if job.is_final:
                return job
        waited = clock() - start
        if timeout_s is not None and waited >= timeout_s:
            if unheard:
                raise TimedOutError(
                    f"{what}: gave up after {timeout_s:g} s without an answer from C2. {unheard}"
                )
            raise TimedOutError(f"{what} has not ended after {timeout_s:g} s; it continues.")
        pause = delay(waited)
        sleep(pause if timeout_s is None else min(pause, max(0.0, timeout_s - waited)))


def follow(
    ended: Callable[[], bool],
    read: Callable[[int], tuple[bytes, int]],
    write: Callable[[bytes], None],
    *,
    say: Callable[[str], None] = lambda _: None,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Copy pieces that `read` returns (a piece and the next offset) until `ended`.

    Something new is looked for often while there is some, else as often as `wait_until_final` asks. UnknownJobError
    of `read` means that there is nothing yet, or after the end that there is nothing at all. An UnreachableError is
    tolerated for PATIENCE_S, and said at once.
    """
    offset, changed = 0, clock()
    heard = changed
    silences = OutageReporter(say)
    while True:
        over = False
        try:
            over = ended()  # first, so that what was written before the end is read after it
            before = offset
            while (piece := read(offset))[1] > offset:
                write(piece[0])
                offset = piece[1]
            changed = clock() if offset > before else changed
            heard = clock()
            silences.heard()
        except UnknownJobError:
            if over:
                raise
            heard = clock()
        except UnreachableError as error:
            if clock() - heard > PATIENCE_S:
                raise
            silences.unheard(error.message)
        if over:
            return
        sleep(next_delay(clock() - changed))
