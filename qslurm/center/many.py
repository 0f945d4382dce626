"""Many submissions at once, over a few kept connections."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from qslurm.center.jobs import submit
from qslurm.errors import QslurmError, RefusedError

if TYPE_CHECKING:
    from qslurm.center.connection import Center
    from qslurm.slurmrest import Submitted

CONNECTIONS = 4
"""Submissions under way at a time: more are not faster, slurmctld takes them one by one."""


def submit_many(
    connect: Callable[[], Center],
    payloads: Sequence[dict[str, Any]],
    *,
    on_done: Callable[[int], None],
    connections: int = CONNECTIONS,
) -> list[Submitted | QslurmError | None]:
    """Send payloads, each once; what came of each, in their order. `on_done` is called (by any thread) with the
    place of each that is through.

    A refusal is that job's own. Any other error (no answer, a refused token) keeps those from being sent that were not
    yet: they are None. Ctrl-C does the same, and raises when what was under way has been answered.
    """
    local = threading.local()
    opened: list[Center] = []
    stop = threading.Event()

    def send(place: int) -> Submitted | QslurmError | None:
        if stop.is_set():
            return None
        try:
            if not hasattr(local, "center"):
                local.center = connect()
                opened.append(local.center)
            return submit(local.center, payloads[place])
        except RefusedError as error:
            return error
        except QslurmError as error:
            stop.set()
            return error
        finally:
            on_done(place)

    try:
        with ThreadPoolExecutor(min(connections, len(payloads)) or 1) as threads:
            futures = [threads.submit(send, place) for place in range(len(payloads))]
            try:
                return [future.result() for future in futures]
            except KeyboardInterrupt:
                stop.set()
                raise
    finally:
        for center in opened:
            center.close()
