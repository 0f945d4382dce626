"""Polls a job on C2 until it ends, with back-off, and tolerates an unreachable C2 for a while."""

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
    """A job, or several, that can be waited for."""

    @property
    def is_final(self) -> bool:
        """Whether it has ended."""

    @property
    def word(self) -> str:
        """Its state, as text."""

    @property
    def why(self) -> str:
        """The reason for its state."""


Job = TypeVar("Job", bound=Waitable)


@dataclass(frozen=True)
class Poll:
    """The result of one poll: the job, or for how many seconds C2 has not answered, and the error."""

    job: Waitable | None
    silent_s: float
    waited_s: float
    error: str = ""


class OutageReporter:
    """Reports once that C2 does not answer, and once that it answers again."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._silent = False

    def no_answer(self, why: str) -> None:
        """Report that C2 has not answered; `why` is a sentence."""
        if not self._silent:
            self._silent = True
            self._say(f"{why} Retrying for at most {PATIENCE_S:g} s; the job continues.")

    def answered(self) -> None:
        """Report that C2 has answered."""
        if self._silent:
            self._silent = False
            self._say("C2 is reachable again.")


def next_delay(waited_s: float) -> float:
    """Seconds until the next poll: a tenth of the time waited so far, within bounds.

    The end of a short job is noticed within a fraction of a second; a long job costs C2 six requests a minute.
    """
    return min(LONGEST_DELAY_S, max(FIRST_DELAY_S, waited_s / 10))


def wait_until_final(
    ask: Callable[[], Job],
    *,
    on_poll: Callable[[Poll], None],
    timeout_s: float | None = None,
    what: str = "The job",
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
    delay: Callable[[float], float] = next_delay,
) -> Job:
    """Poll with `ask` until the job has ended, and return it.

    `on_poll` is called with each result. `delay` gives the seconds until the next poll from the seconds waited so far.
    UnreachableError if C2 does not answer for PATIENCE_S; TimedOutError, with `what` as its subject, after `timeout_s`.
    """
    start = answered_at = clock()
    while True:
        try:
            job = ask()
        except UnreachableError as error:
            failure, silent = error.message, clock() - answered_at
            if silent > PATIENCE_S:
                raise UnreachableError(
                    f"C2 has not answered for {silent:.0f} s; the job continues. {failure}",
                    hint=error.hint,
                ) from error
            on_poll(Poll(None, silent, clock() - start, failure))
        else:
            failure, answered_at = "", clock()
            on_poll(Poll(job, 0.0, answered_at - start))
            if job.is_final:
                return job
        waited = clock() - start
        if timeout_s is not None and waited >= timeout_s:
            if failure:
                raise TimedOutError(
                    f"{what}: gave up after {timeout_s:g} s without an answer from C2. {failure}"
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
    """Copy the pieces that `read` returns (data and the next offset) until `ended`.

    Polls quickly while there is new data, else with the delays of `wait_until_final`. UnknownJobError from `read` means
    that there is no data yet; after the end it is raised. An UnreachableError is reported at once with `say`, and
    tolerated for PATIENCE_S.
    """
    offset, changed = 0, clock()
    answered_at = changed
    outages = OutageReporter(say)
    while True:
        over = False
        try:
            over = ended()  # first, so that what was written before the end is read after it
            before = offset
            while (piece := read(offset))[1] > offset:
                write(piece[0])
                offset = piece[1]
            changed = clock() if offset > before else changed
            answered_at = clock()
            outages.answered()
        except UnknownJobError:
            if over:
                raise
            answered_at = clock()
        except UnreachableError as error:
            if clock() - answered_at > PATIENCE_S:
                raise
            outages.no_answer(error.message)
        if over:
            return
        sleep(next_delay(clock() - changed))
