"""Queries several platforms in parallel; an unreachable one does not affect the others."""

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

TIMEOUT_S = 15.0
"""Seconds to wait for each of several platforms; slurmrestd takes 4 s to list 5,000 ended jobs."""


def query_each(
    centers: Sequence[CenterConnection],
    query: Callable[[CenterConnection], T],
    enough: Callable[[T], bool] | None = None,
    *,
    timeout_s: float = TIMEOUT_S,
) -> list[T | QslurmError]:
    """Query all in parallel; their answers or errors, in order.

    A platform that does not answer within `timeout_s` gets an UnreachableError, whatever its own time-out. With
    `enough`, the platforms after the first answer that is enough are left out. The threads are daemons, so that
    neither this nor Ctrl-C waits for a platform that does not answer.
    """
    answers: SimpleQueue[tuple[int, T | BaseException]] = SimpleQueue()

    def run(index: int, center: CenterConnection) -> None:
        try:
            answers.put((index, query(center)))
        except BaseException as error:  # noqa: BLE001 - raised below, in the caller's thread
            answers.put((index, error))
        finally:
            center.close()

    for index, center in enumerate(centers):
        threading.Thread(target=run, args=(index, center), name=f"query-{index}", daemon=True).start()
    found: dict[int, T | QslurmError] = {}
    known: list[T | QslurmError] = []
    end = time.monotonic() + timeout_s
    while len(known) < len(centers):
        try:
            index, answer = answers.get(timeout=max(0.0, end - time.monotonic()))
        except Empty:
            return known + [
                found.get(index, _no_answer(timeout_s)) for index in range(len(known), len(centers))
            ]
        if isinstance(answer, BaseException) and not isinstance(answer, QslurmError):
            raise answer
        found[index] = answer
        while len(known) in found:
            known.append(found[len(known)])
            latest = known[-1]
            if enough is not None and not isinstance(latest, QslurmError) and enough(latest):
                return known
    return known


def _no_answer(timeout_s: float) -> UnreachableError:
    return UnreachableError(
        f"No answer from C2 for {timeout_s:g} s.",
        hint="Use --platform NAME to wait for its full timeout_s.",
    )
