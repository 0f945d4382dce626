"""Submissions whose jobs were cancelled by the agent: a slurmctld that is killed a moment later has forgotten that.

The job is back then, as it was before, and would run. C2 tells of it, under the same key, and it is cancelled again.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING

from qslurm.errors import NoRoomError, QslurmError, UnknownJobError
from qslurm.system.event_log import EventLog

if TYPE_CHECKING:
    from qslurm.c1.agent.outbox import Outbox
    from qslurm.c1.connection.center import Center
    from qslurm.slurm.job_info import JobInfo

log = EventLog(__name__)

GRACE_S = 10.0
"""Seconds in which a job that was cancelled should be over, or ending."""

KEPT_S = 3600.0
"""Seconds for which a cancellation is kept in mind: slurmctld writes down what it knows within seconds."""

AT_ONCE = 50
"""Jobs that are asked about one after the other; meanwhile nobody hears how others are."""

ENDING = "COMPLETING"


class Cancellations:
    """Knows them, also after a restart. `add` by any thread, all else by the one that follows C2's jobs."""

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox
        self._lock = threading.Lock()
        now = time.monotonic()
        self._keys = dict.fromkeys(outbox.cancelled_since(time.time() - KEPT_S), now)
        self._back: dict[tuple[str, int], float] = {}

    def add(self, number: int, key: str, job_id: int) -> None:
        """C2 has taken the cancellation of this submission's job.

        It counts as there until C2 tells that it is over: if it was forgotten at once, nothing has changed for C2.
        """
        with self._lock:
            self._keys[key] = self._back[key, job_id] = time.monotonic()
        try:
            self._outbox.cancelled(number)
        except NoRoomError as error:  # it is cancelled all the same
            log.warning("the next agent will not know", job=job_id, key=key, reason=error.message)

    def are_expected(self, now: float) -> bool:
        """Whether a job may still come back (monotonic seconds)."""
        with self._lock:
            self._keys = {key: at for key, at in self._keys.items() if now - at < KEPT_S}
            return bool(self._keys)

    @property
    def are_back(self) -> bool:
        """Whether a job is there that should not be."""
        return bool(self._back)

    def saw(self, rows: Iterable[JobInfo], now: float) -> None:
        """C2 tells of these jobs."""
        if not self._keys:
            return
        with self._lock:
            for row in rows:
                key = row.marks.key
                name = (key, row.array_job or row.job_id)
                if row.is_final or row.state == ENDING:
                    if not row.array_job:  # other tasks may be there; who repeats it asks for all
                        self._back.pop(name, None)
                elif key in self._keys:
                    self._back.setdefault(name, now)

    def repeat(self, center: Center, now: float) -> None:
        """Cancel again what has been back for a while."""
        with self._lock:
            due = [name for name, since in self._back.items() if now - since >= GRACE_S][:AT_ONCE]
            self._back |= dict.fromkeys(due, now)
        for key, job_id in due:
            try:
                is_back = _is_back(center, key, job_id)
            except QslurmError as error:
                log.warning("can't be cancelled again", job=job_id, key=key, reason=error.message)
                continue
            if is_back:
                log.warning("cancelled again: C2 had forgotten that", job=job_id, key=key)
            else:
                with self._lock:
                    self._back.pop((key, job_id), None)


def _is_back(center: Center, key: str, job_id: int) -> bool:
    """Whether the job was there, and is cancelled again."""
    try:
        tasks = center.slurm.tasks(job_id)
    except UnknownJobError:
        return False
    if not any(job.marks.key == key and not job.is_final and job.state != ENDING for job in tasks):
        return False
    center.slurm.cancel(job_id)
    return True
