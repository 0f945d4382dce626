"""Follows the center's open jobs on C2, for everybody who waits for one of them.

C2's job manager says what has changed, in one question that waits for an answer. While it can't be asked, slurmrestd
is, at most once a second, and more rarely where its answers take long.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

import msgspec

from qslurm.c1.agent.cancellations import Cancellations
from qslurm.c1.agent.job_identity import is_outdated, named
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
        lost: Reconciler | None = None,
    ) -> None:
        self.jobs = JobTable(is_outdated)
        self.is_live = False
        """Whether C2's job manager says at once what changes."""

        self.cancelled = Cancellations(outbox)
        """Cancelled jobs, in case they reappear."""

        self._lost = Reconciler(outbox, lambda: None) if lost is None else lost
        self._outbox = outbox
        self._connect = connect
        self._changed = changed
        self._news = threading.Event()
        self._stopping = False
        self._since = ""
        self._follow_at = 0.0
        self._missing_at = 0.0
        self._is_missing_some = False
        self._list_s = 0.0
        self._trouble = ""
        self._turn = 0
        # A daemon: a question that waits for its answer must not keep the agent from ending.
        self._thread = threading.Thread(target=self._run, name="follower", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End; what is heard later is not taken in any more."""
        self._stopping = True
        self._news.set()
        self._thread.join(STOP_S)

    def look(self) -> None:
        """Wake the tracker: there is a new or cancelled job."""
        self._news.set()

    def job(self, job_id: int) -> JobInfo | None:
        """A job as last seen; None before the first poll."""
        return self.jobs.job(job_id)

    def tasks(self, job_id: int, key: str) -> list[JobInfo]:
        """A submission's tasks, or its one job, as they were seen last; none if slurmrestd must be asked."""
        rows = self.jobs.tasks(job_id, key)
        known = self.is_live or not any(row.array_job for row in rows)
        return rows if known else []

    def saw(self, jobs: list[JobInfo]) -> None:
        """Record jobs that another request has read from C2."""
        self._say_changed(self._take_in(self._named(jobs)))

    def _run(self) -> None:
        center = self._connect()
        while True:
            self._news.clear()
            if self._stopping:  # looked at after the bell is reset, or its last ring is missed
                break
            pause = 0.0
            try:
                pause = self._round(center)
            except QslurmError as error:
                self._say_trouble(error.message)
                pause = max(PAUSE_S, self._pause())
                center.close()
                center = self._connect()  # with the token that is installed now
            except Exception as error:  # noqa: BLE001 -- a bug must not leave everybody waiting for ever
                log.crashed("a polling round failed", error)
                pause = LONGEST_PAUSE_S
            if pause == float("inf"):
                self._news.wait()
            elif pause and not self._stopping:
                time.sleep(min(pause, PAUSE_S))
                self._news.wait(max(0.0, pause - PAUSE_S))
        center.close()

    def _round(self, center: CenterConnection) -> float:
        """Hear once how jobs are; seconds until the next time."""
        if not self._outbox.has_open() and not self.cancelled.are_expected(time.monotonic()):
            return float("inf")
        if center.has_job_manager and (self.is_live or time.monotonic() >= self._follow_at):
            try:
                self._follow(center)
            except QslurmError as error:
                self._lose(error)
            else:
                return 0.0
        self._ask(center)
        self._trouble = ""
        return self._pause()

    # --- by the job manager --------------------------------------------------------------------------

    def _follow(self, center: CenterConnection) -> None:
        is_busy = self._is_missing_some or self.cancelled.are_back
        wait_s = (int(PAUSE_S) if is_busy else WAIT_S) if self.is_live else 0
        page = center.job_manager.changes(self._since, wait_s)
        if self._stopping:
            return
        if not self.is_live:
            log.info("following C2's job manager")
            self.is_live, self._trouble = True, ""
        self._since = page.since
        page = msgspec.structs.replace(page, jobs=self._named(page.jobs))
        self.cancelled.saw(page.jobs, time.monotonic())
        self._tell(self._take_in(page.jobs, page.gone, reset=page.reset))
        self.cancelled.repeat(center, time.monotonic())
        if not page.more and time.monotonic() >= self._missing_at:
            self._missing_at = time.monotonic() + MISSING_S
            self._find_missing(center)

    def _lose(self, error: QslurmError) -> None:
        if self.is_live or not self._follow_at:
            log.warning("cannot follow C2's job manager; polling slurmrestd instead", reason=error.message)
        self.is_live, self._since = False, ""
        self._follow_at = time.monotonic() + RETRY_S

    def _find_missing(self, center: CenterConnection) -> None:
        """Query slurmrestd for a submission whose job ended and was purged while nothing was followed."""
        missing = self._suspected(lambda job_id, key: bool(self.jobs.tasks(job_id, key)))
        self._is_missing_some = bool(missing)
        if missing:
            self._look_at(center, *missing[self._turn % len(missing)])
            self._turn += 1
            self._missing_at = time.monotonic() + max(PAUSE_S, MISSING_S / len(missing))
            self.saw(self._lost.look(center, time.monotonic()))

    def _suspected(self, is_shown: Callable[[int, str], bool]) -> list[tuple[int, str, int]]:
        """Number, key and job id of the open submissions whose jobs C2 does not show."""
        missing, now = [], time.monotonic()
        followed = self._outbox.on_c2()
        self._outbox.ended(self._over(followed))  # C2's news may have been through before its answer
        for number, key, job_id in followed:
            if is_shown(job_id, key):
                self._lost.clear(number)
            else:
                self._lost.suspect(number, now)
                missing.append((number, key, job_id))
        return missing

    # --- by slurmrestd -------------------------------------------------------------------------------

    def _ask(self, center: CenterConnection) -> None:
        """Ask for all jobs at once, or for the next of a few."""
        followed = self._outbox.on_c2()
        if not followed:
            return
        if len(followed) > FEW or (len(followed) > 1 and self._list_s < QUICK_S):
            began = time.monotonic()
            slurm = center.slurm
            rows = self._named(job for job in slurm.jobs() if job.user == slurm.user)
            self._list_s = time.monotonic() - began
            self._tell(self._take_in(rows))
            shown = {(row.array_or_job_id, row.marks.key) for row in rows}
            followed = self._suspected(lambda job_id, key: (job_id, key) in shown)
        if followed:
            self._look_at(center, *followed[self._turn % len(followed)])
            self._turn += 1
        self.saw(self._lost.look(center, time.monotonic()))

    def _look_at(self, center: CenterConnection, number: int, key: str, job_id: int) -> None:
        from qslurm.c1.queries.job_state import look
        from qslurm.c1.queries.lost_jobs import is_forgotten, may_be_lost

        try:
            job = look(center, job_id, key)
        except UnknownJobError:
            self._lost.suspect(number, time.monotonic())  # or slurmdbd hears of it some seconds late
            return
        (row,) = self._named([job])
        is_doubtful = is_forgotten(job) or may_be_lost(job, has_job_manager=center.has_job_manager)
        if is_doubtful or row.marks.key != key:  # in the table it would count as shown
            self._lost.suspect(number, time.monotonic())
            return
        self._lost.clear(number)
        if row.is_final:
            self._outbox.ended([number])
        self._say_changed(self._take_in([row]))

    def _named(self, rows: Iterable[JobInfo]) -> list[JobInfo]:
        """Jobs as C2 tells of them; those on which no key stands any more with that of the submission they are of."""
        return [named(row, self._outbox, self.jobs.job(row.job_id)) for row in rows]

    def _take_in(
        self, jobs: Sequence[JobInfo], gone: Sequence[int] = (), *, reset: bool = False
    ) -> list[JobInfo]:
        """Keep how jobs are; those whose users must hear of it."""
        changes = self.jobs.apply(jobs, gone, reset=reset)
        return [
            now
            for before, now in changes
            if now and (before is None or visible_state(before) != visible_state(now))
        ]

    def _pause(self) -> float:
        return min(max(PAUSE_S, self._list_s / SHARE), LONGEST_PAUSE_S)

    # --- both ----------------------------------------------------------------------------------------

    def _tell(self, changed: list[JobInfo]) -> None:
        """Write down what is over, and then wake who waits: they may look what is written."""
        over = {row.array_or_job_id for row in changed if row.is_final}
        self._outbox.ended(self._over(self._outbox.on_c2(over)) if over else [])
        self._say_changed(changed)

    def _over(self, followed: Iterable[tuple[int, str, int]]) -> list[int]:
        """The numbers of the submissions whose jobs, or all tasks, are over."""
        shown = ((number, self.jobs.tasks(job_id, key)) for number, key, job_id in followed)
        return [number for number, tasks in shown if tasks and all(row.is_final for row in tasks)]

    def _say_changed(self, rows: list[JobInfo]) -> None:
        if rows:
            self._changed(rows)

    def _say_trouble(self, message: str) -> None:
        if message != self._trouble:
            log.warning("cannot query C2 for job states", reason=message)
        self._trouble = message
