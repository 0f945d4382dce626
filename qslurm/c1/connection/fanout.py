"""One question to several platforms at once; one that is away spoils nothing for the others."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, TypeVar

from qslurm.errors import QslurmError, UnreachableError

if TYPE_CHECKING:
    from qslurm.c1.connection.center_connection import CenterConnection

T = TypeVar("T")

PATIENCE_S = 15.0
"""Seconds that one of several platforms is waited for; slurmrestd needs 4 to list 5,000 jobs that have ended."""


def ask_each(
    centers: Sequence[CenterConnection],
    question: Callable[[CenterConnection], T],
    enough: Callable[[T], bool] | None = None,
    *,
    patience_s: float = PATIENCE_S,
) -> list[T | QslurmError]:
    """Query all in parallel: each answer or error, in their order.

    One that says nothing for `patience_s` is an UnreachableError, whatever its own time-out. With `enough`, those after
    the first answer that is enough are not waited for, and left out. The threads are daemons: neither that nor Ctrl-C
    waits for a platform that does not answer.
    """
    answers: SimpleQueue[tuple[int, T | BaseException]] = SimpleQueue()

    def ask(place: int, center: CenterConnection) -> None:
        try:
            answers.put((place, question(center)))
        except BaseException as error:  # noqa: BLE001 - raised below, where somebody hears of it
            answers.put((place, error))
        finally:
            center.close()

    for place, center in enumerate(centers):
        threading.Thread(target=ask, args=(place, center), name=f"ask-{place}", daemon=True).start()
    found: dict[int, T | QslurmError] = {}
    known: list[T | QslurmError] = []
    end = time.monotonic() + patience_s
    while len(known) < len(centers):
        try:
            place, answer = answers.get(timeout=max(0.0, end - time.monotonic()))
        except Empty:
            return known + [
                found.get(place, _silent(patience_s)) for place in range(len(known), len(centers))
            ]
        if isinstance(answer, BaseException) and not isinstance(answer, QslurmError):
            raise answer
        found[place] = answer
        while len(known) in found:
            known.append(found[len(known)])
            latest = known[-1]
            if enough is not None and not isinstance(latest, QslurmError) and enough(latest):
                return known
    return known


def _silent(patience_s: float) -> UnreachableError:
    return UnreachableError(
        f"No answer from C2 for {patience_s:g} s.",
        hint="Use --platform NAME to wait for its full timeout_s.",
    )
