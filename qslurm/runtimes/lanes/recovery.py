"""Recovers executions from the logbooks that the runtimes of a killed dispatcher have left."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

from qslurm.protocol.messages import Executed
from qslurm.runtimes.lanes.logbook import SUFFIX, Logbook, open_logbook
from qslurm.system.event_log import EventLog

log = EventLog(__name__)


def recover(logbooks: str, record: Callable[[int, str, Executed], bool], store: Callable[[], None]) -> int:
    """Record the executions and remove the logbooks; `logbooks` is the prefix of their paths.

    `record` records a task's execution (False: it is recorded already), `store` returns once all are stored.
    Returns the number of recovered executions.
    """
    began, found = time.monotonic(), 0
    paths = sorted(Path(logbooks).parent.glob(f"{Path(logbooks).name}*{SUFFIX}"))
    for path in paths:
        descriptor = open_logbook(path)
        logbook = Logbook(descriptor)
        for entry in logbook.read():
            found += record(entry.task, entry.circuit_sha256, entry.executed)
        logbook.close()
        os.close(descriptor)
    if found:
        store()
    for path in paths:
        path.unlink()
    if found:
        took = (time.monotonic() - began) * 1000
        log.info("executions recovered from logbooks", executions=found, ms=round(took))
    return found
