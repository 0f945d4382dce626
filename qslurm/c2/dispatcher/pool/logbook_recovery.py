"""What a dispatcher does with the logbooks that the runtimes of a killed one have left."""

from __future__ import annotations

import os
import time
from pathlib import Path

from qslurm.c2.dispatcher.tasks.task_registry import TaskRegistry
from qslurm.errors import QslurmError
from qslurm.runtimes.lanes.logbook import SUFFIX, Logbook, open_logbook
from qslurm.system.event_log import EventLog

log = EventLog(__name__)


def recover(registry: TaskRegistry, logbooks: str) -> int:
    """Take over what the runtimes of a killed dispatcher have left in their logbooks, and remove these.

    `logbooks` is the beginning of their paths. The answer is how many executions that were.
    """
    began, found = time.monotonic(), 0
    paths = sorted(Path(logbooks).parent.glob(f"{Path(logbooks).name}*{SUFFIX}"))
    for path in paths:
        descriptor = open_logbook(path)
        logbook = Logbook(descriptor)
        for record in logbook.read():
            found += registry.record(record.task, record.circuit_sha256, record.executed)
        logbook.close()
        os.close(descriptor)
    if found:
        trouble = registry.store.commit(registry.changes, last=True)
        if trouble:
            raise QslurmError(
                f"What is left in logbooks can't be stored: {trouble}.", hint="Make room, and start again."
            )
        registry.stored()
        registry.settled.clear()
    for path in paths:
        path.unlink()
    if found:
        took = (time.monotonic() - began) * 1000
        log.info("executions taken over from logbooks", executions=found, ms=round(took))
    return found
