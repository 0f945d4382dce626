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


def ask_each(centers: Sequence[Center], question: Callable[[Center], T]) -> list[T | QslurmError]:
    """What each says, in their order, or the error for which it says nothing.

    The threads are daemons: Ctrl-C does not wait for a platform that does not answer.
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
    for _ in centers:
        place, answer = answers.get()
        if isinstance(answer, BaseException) and not isinstance(answer, QslurmError):
            raise answer
        found[place] = answer
    return [found[place] for place in range(len(centers))]
