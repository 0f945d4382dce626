"""Follows the center's open jobs on C2, for all clients that wait for one.

C2's job manager reports changes by long polling. While it is unreachable, slurmrestd is polled, at most once a second,
and less often if its responses are slow.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

import msgspec

from qslurm.c1.agent.cancellations import Cancellations
from qslurm.c1.agent.job_identity import is_outdated, with_key_restored
from qslurm.c1.agent.reconcile import Reconciler
from qslurm.errors import QslurmError, UnknownJobError
from qslurm.protocol.job_changes import visible_state
from qslurm.slurm.job_info import JobInfo
from qslurm.slurm.job_table import JobTable
from qslurm.system.event_log import EventLog

if TYPE_CHECKING:
    from qslurm.c1.agent.outbox import Outbox
    from qslurm.c1.connection.center_connection import CenterConnection
    from qslurm.protocol.job_changes import visible_state

log = EventLog(__name__)

WAIT_S = 25
"""Seconds that a request to the job manager waits for changes."""

RETRY_S = 5.0
"""Seconds between two attempts to follow the job manager."""

PAUSE_S = 1.0
"""Minimum seconds between two polls of slurmrestd."""

SHARE = 0.1
"""Maximum fraction of time that polling occupies slurmrestd."""

LONGEST_PAUSE_S = 60.0
FEW = 5
"""Maximum jobs polled individually, unless listing all is fast."""

QUICK_S = 0.1
MISSING_S = 10.0
"""Seconds between two checks for submissions that the job manager does not report."""

STOP_S = 1.0


class JobTracker:
    """The tracker thread. `changed` is called with changed jobs."""

    def __init__(
        self,
        outbox: Outbox,
        connect: Callable[[], CenterConnection],
        changed: Callable[[list[JobInfo]], None],
        reconciler: Reconciler | None = None,
    ) -> None:
        self.jobs = JobTable(is_outdated)
        self.is_live = False
        """Whether C2's job manager reports changes."""

        self.cancellations = Cancellations(outbox)
        """Cancelled jobs, in case they reappear."""

        self._reconciler = Reconciler(outbox, lambda: None) if reconciler is None else reconciler
        self._outbox = outbox
        self._connect = connect
        self._changed = changed
        self._wake = threading.Event()
        self._stopping = False
        self._since = ""
        self._follow_at = 0.0
        self._check_missing_at = 0.0
        self._misses_jobs = False
        self._list_s = 0.0
        self._trouble = ""
        self._turn = 0
        # a daemon, since a long poll must not delay the agent's exit
        self._thread = threading.Thread(target=self._run, name="tracker", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Stop; later responses are ignored."""
        self._stopping = True
        self._wake.set()
        self._thread.join(STOP_S)

    def wake(self) -> None:
        """Wake the tracker: there is a new or cancelled job."""
        self._wake.set()

    def job(self, job_id: int) -> JobInfo | None:
        """A job as last seen; None before the first poll."""
        return self.jobs.job(job_id)

    def tasks(self, job_id: int, key: str) -> list[JobInfo]:
        """A submission's job or tasks as last seen; empty if slurmrestd must be queried."""
        rows = self.jobs.tasks(job_id, key)
        known = self.is_live or not any(row.array_job for row in rows)
        return rows if known else []

    def record(self, jobs: list[JobInfo]) -> None:
        """Record jobs that another request has read from C2."""
        self._notify(self._apply(self._with_keys(jobs)))

    def _run(self) -> None:
        center = self._connect()
        while True:
            self._wake.clear()
            if self._stopping:  # checked after clear(), so that no stop is missed
                break
            pause = 0.0
            try:
                pause = self._round(center)
            except QslurmError as error:
                self._warn(error.message)
                pause = max(PAUSE_S, self._pause())
                center.close()
                center = self._connect()  # with the current token
            except Exception as error:  # noqa: BLE001 -- a bug must not end the thread
                log.crashed("a polling round failed", error)
                pause = LONGEST_PAUSE_S
            if pause == float("inf"):
                self._wake.wait()
            elif pause and not self._stopping:
                time.sleep(min(pause, PAUSE_S))
                self._wake.wait(max(0.0, pause - PAUSE_S))
        center.close()

    def _round(self, center: CenterConnection) -> float:
        """Query C2 once; returns the seconds until the next round."""
        if not self._outbox.has_open() and not self.cancellations.are_expected(time.monotonic()):
            return float("inf")
        if center.has_job_manager and (self.is_live or time.monotonic() >= self._follow_at):
            try:
                self._follow(center)
            except QslurmError as error:
                self._stop_following(error)
            else:
                return 0.0
        self._poll(center)
        self._trouble = ""
        return self._pause()

    # --- by the job manager --------------------------------------------------------------------------

    def _follow(self, center: CenterConnection) -> None:
        is_busy = self._misses_jobs or self.cancellations.are_back
        wait_s = (int(PAUSE_S) if is_busy else WAIT_S) if self.is_live else 0
        page = center.job_manager.changes(self._since, wait_s)
        if self._stopping:
            return
        if not self.is_live:
            log.info("following C2's job manager")
            self.is_live, self._trouble = True, ""
        self._since = page.since
        page = msgspec.structs.replace(page, jobs=self._with_keys(page.jobs))
        self.cancellations.record(page.jobs, time.monotonic())
        self._process(self._apply(page.jobs, page.gone, reset=page.reset))
        self.cancellations.repeat(center, time.monotonic())
        if not page.more and time.monotonic() >= self._check_missing_at:
            self._check_missing_at = time.monotonic() + MISSING_S
            self._find_missing(center)

    def _stop_following(self, error: QslurmError) -> None:
        if self.is_live or not self._follow_at:
            log.warning("cannot follow C2's job manager; polling slurmrestd instead", reason=error.message)
        self.is_live, self._since = False, ""
        self._follow_at = time.monotonic() + RETRY_S

    def _find_missing(self, center: CenterConnection) -> None:
        """Query slurmrestd for a submission whose job ended and was purged while nothing was followed."""
        missing = self._suspected(lambda job_id, key: bool(self.jobs.tasks(job_id, key)))
        self._misses_jobs = bool(missing)
        if missing:
            self._poll_job(center, *missing[self._turn % len(missing)])
            self._turn += 1
            self._check_missing_at = time.monotonic() + max(PAUSE_S, MISSING_S / len(missing))
            self.record(self._reconciler.check(center, time.monotonic()))

    def _suspected(self, is_shown: Callable[[int, str], bool]) -> list[tuple[int, str, int]]:
        """Number, key and job id of the open submissions whose jobs C2 does not show."""
        missing, now = [], time.monotonic()
        open_jobs = self._outbox.open_jobs()
        self._outbox.mark_ended(
            self._ended(open_jobs)
        )  # a change may be reported before the submission is accepted
        for number, key, job_id in open_jobs:
            if is_shown(job_id, key):
                self._reconciler.clear(number)
            else:
                self._reconciler.suspect(number, now)
                missing.append((number, key, job_id))
        return missing

    # --- by slurmrestd -------------------------------------------------------------------------------

    def _poll(self, center: CenterConnection) -> None:
        """Poll all jobs, or the next of a few."""
        open_jobs = self._outbox.open_jobs()
        if not open_jobs:
            return
        if len(open_jobs) > FEW or (len(open_jobs) > 1 and self._list_s < QUICK_S):
            began = time.monotonic()
            slurm = center.slurm
            rows = self._with_keys(job for job in slurm.jobs() if job.user == slurm.user)
            self._list_s = time.monotonic() - began
            self._process(self._apply(rows))
            shown = {(row.array_or_job_id, row.marks.key) for row in rows}
            open_jobs = self._suspected(lambda job_id, key: (job_id, key) in shown)
        if open_jobs:
            self._poll_job(center, *open_jobs[self._turn % len(open_jobs)])
            self._turn += 1
        self.record(self._reconciler.check(center, time.monotonic()))

    def _poll_job(self, center: CenterConnection, number: int, key: str, job_id: int) -> None:
        from qslurm.c1.queries.job_state import look
        from qslurm.c1.queries.lost_jobs import is_forgotten, may_be_lost

        try:
            job = look(center, job_id, key)
        except UnknownJobError:
            self._reconciler.suspect(number, time.monotonic())  # or slurmdbd is seconds late
            return
        (row,) = self._with_keys([job])
        is_doubtful = is_forgotten(job) or may_be_lost(job, has_job_manager=center.has_job_manager)
        if is_doubtful or row.marks.key != key:  # in the table it would count as shown by C2
            self._reconciler.suspect(number, time.monotonic())
            return
        self._reconciler.clear(number)
        if row.is_final:
            self._outbox.mark_ended([number])
        self._notify(self._apply([row]))

    def _with_keys(self, rows: Iterable[JobInfo]) -> list[JobInfo]:
        """The jobs, with the submission key restored where it was overwritten."""
        return [with_key_restored(row, self._outbox, self.jobs.job(row.job_id)) for row in rows]

    def _apply(
        self, jobs: Sequence[JobInfo], gone: Sequence[int] = (), *, reset: bool = False
    ) -> list[JobInfo]:
        """Update the job table; returns the jobs whose visible state changed."""
        changes = self.jobs.apply(jobs, gone, reset=reset)
        return [
            now
            for before, now in changes
            if now and (before is None or visible_state(before) != visible_state(now))
        ]

    def _pause(self) -> float:
        return min(max(PAUSE_S, self._list_s / SHARE), LONGEST_PAUSE_S)

    # --- common ----------------------------------------------------------------------------------------

    def _process(self, changed: list[JobInfo]) -> None:
        """Record ended submissions, then notify waiting clients, which read those records."""
        ended = {row.array_or_job_id for row in changed if row.is_final}
        self._outbox.mark_ended(self._ended(self._outbox.open_jobs(ended)) if ended else [])
        self._notify(changed)

    def _ended(self, open_jobs: Iterable[tuple[int, str, int]]) -> list[int]:
        """The numbers of the submissions whose job, or all of whose tasks, have ended."""
        shown = ((number, self.jobs.tasks(job_id, key)) for number, key, job_id in open_jobs)
        return [number for number, tasks in shown if tasks and all(row.is_final for row in tasks)]

    def _notify(self, rows: list[JobInfo]) -> None:
        if rows:
            self._changed(rows)

    def _warn(self, message: str) -> None:
        if message != self._trouble:
            log.warning("cannot query C2 for job states", reason=message)
        self._trouble = message
