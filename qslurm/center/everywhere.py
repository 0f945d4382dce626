"""One question to several platforms at once; one that is away spoils nothing for the others."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from typing import TYPE_CHECKING, TypeVar

from qslurm.errors import QslurmError

if TYPE_CHECKING:
    from qslurm.center.connection import Center

T = TypeVar("T")


def ask_each(
    centers: Sequence[Center], question: Callable[[Center], T], enough: Callable[[T], bool] | None = None
) -> list[T | QslurmError]:
    """What each says, in their order, or the error for which it says nothing.

    With `enough`, those after the first answer that is enough are not waited for, and left out. The threads are
    daemons: neither that nor Ctrl-C waits for a platform that does not answer.
    """
    answers: SimpleQueue[tuple[int, T | BaseException]] = SimpleQueue()

    def ask(place: int, center: Center) -> None:
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
    while len(known) < len(centers):
        place, answer = answers.get()
        if isinstance(answer, BaseException) and not isinstance(answer, QslurmError):
            raise answer
        found[place] = answer
        while len(known) in found:
            known.append(found[len(known)])
            latest = known[-1]
            if enough is not None and not isinstance(latest, QslurmError) and enough(latest):
                return known
    return known
