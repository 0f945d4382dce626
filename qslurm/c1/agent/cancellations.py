"""Tracks cancelled jobs: a slurmctld killed right afterwards loses the cancellation.

The job reappears under the same key and would run, so it is cancelled again.
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
    from qslurm.c1.connection.center_connection import CenterConnection
    from qslurm.slurm.job_info import JobInfo

log = EventLog(__name__)

GRACE_S = 10.0
"""Seconds within which a cancelled job should be ending."""

KEPT_S = 3600.0
"""Seconds to remember a cancellation: slurmctld saves its state within seconds."""

AT_ONCE = 50
"""Jobs queried per round, since queries delay other updates."""

ENDING = "COMPLETING"


class Cancellations:
    """Recent cancellations, kept across restarts. `add` is thread-safe; the tracker's thread calls the rest."""

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox
        self._lock = threading.Lock()
        now = time.monotonic()
        self._keys = dict.fromkeys(outbox.cancelled_since(time.time() - KEPT_S), now)
        self._back: dict[tuple[str, int], float] = {}

    def add(self, number: int, key: str, job_id: int) -> None:
        """Record that C2 accepted the cancellation of this submission's job.

        It counts as present until C2 reports its end: if C2 loses the cancellation at once, it reports no change.
        """
        with self._lock:
            self._keys[key] = self._back[key, job_id] = time.monotonic()
        try:
            self._outbox.record_cancellation(number)
        except NoRoomError as error:  # the job is cancelled anyway
            log.warning("the next agent will not know", job=job_id, key=key, reason=error.message)

    def are_expected(self, now: float) -> bool:
        """Whether a cancelled job may still reappear (monotonic seconds)."""
        with self._lock:
            self._keys = {key: at for key, at in self._keys.items() if now - at < KEPT_S}
            return bool(self._keys)

    @property
    def are_back(self) -> bool:
        """Whether a cancelled job is running or pending again."""
        return bool(self._back)

    def record(self, rows: Iterable[JobInfo], now: float) -> None:
        """Check these jobs from C2."""
        if not self._keys:
            return
        with self._lock:
            for row in rows:
                key = row.marks.key
                name = (key, row.array_job or row.job_id)
                if row.is_final or row.state == ENDING:
                    if not row.array_job:  # other tasks may be present; repeat() queries all
                        self._back.pop(name, None)
                elif key in self._keys:
                    self._back.setdefault(name, now)

    def repeat(self, center: CenterConnection, now: float) -> None:
        """Cancel again the jobs that reappeared."""
        with self._lock:
            due = [name for name, since in self._back.items() if now - since >= GRACE_S][:AT_ONCE]
            self._back |= dict.fromkeys(due, now)
        for key, job_id in due:
            try:
                is_back = _is_back(center, key, job_id)
            except QslurmError as error:
                log.warning("cannot cancel again", job=job_id, key=key, reason=error.message)
                continue
            if is_back:
                log.warning("cancelled again: C2 had lost the cancellation", job=job_id, key=key)
            else:
                with self._lock:
                    self._back.pop((key, job_id), None)


def _is_back(center: CenterConnection, key: str, job_id: int) -> bool:
    """Cancel the job again if it is there; whether it was."""
    try:
        tasks = center.slurm.tasks(job_id)
    except UnknownJobError:
        return False
    if not any(job.marks.key == key and not job.is_final and job.state != ENDING for job in tasks):
        return False
    center.slurm.cancel(job_id)
    return True
