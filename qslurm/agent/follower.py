"""Follows the center's open jobs on C2, for everybody who waits for one of them."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING

from qslurm.errors import QslurmError, UnknownJobError
from qslurm.eventlog import EventLog

if TYPE_CHECKING:
    from qslurm.agent.outbox import Outbox
    from qslurm.center.connection import Center
    from qslurm.slurmrest import JobInfo

log = EventLog(__name__)

PAUSE_S = 0.5
"""Between two rounds, while they cost C2 next to nothing."""

SHARE = 0.1
"""Of the time, at most, C2 is busy with our rounds."""

LONGEST_PAUSE_S = 60.0
FEW = 5
"""So many jobs are asked for one by one; of more the list is fetched, which has every center's open jobs."""

REMEMBERED = 10_000
"""Jobs that have ended lately, and are asked for still."""


def mark(job: JobInfo) -> str:
    """What a waiting user sees of a job: when it changes, they are told."""
    return f"{job.state} {job.reason}"


class Follower:
    """A thread that looks. `changed` is called with the id of each job that is seen to be another than before."""

    def __init__(self, outbox: Outbox, connect: Callable[[], Center], changed: Callable[[int], None]) -> None:
        self._outbox = outbox
        self._connect = connect
        self._changed = changed
        self._jobs: OrderedDict[int, JobInfo] = OrderedDict()
        self._lock = threading.Lock()
        self._news = threading.Event()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="follower")

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End after this round."""
        self._stopping = True
        self._news.set()
        self._thread.join()

    def look(self) -> None:
        """There is a new job, or somebody has cancelled one."""
        self._news.set()

    def job(self, job_id: int) -> JobInfo | None:
        """A job as it was seen last; None if nobody has looked yet."""
        with self._lock:
            return self._jobs.get(job_id)

    def _run(self) -> None:
        center = self._connect()
        while True:
            self._news.clear()
            if self._stopping:  # looked at after the bell is reset, or its last ring is missed
                break
            began, idle = time.monotonic(), False
            try:
                idle = not self._round(center)
            except QslurmError as error:
                log.warning("C2 can't be asked how jobs are", reason=error.message)
                center.close()
            except Exception as error:  # noqa: BLE001 -- a bug must not leave everybody waiting for ever
                log.crashed("a round of looking failed", error)
            spent = time.monotonic() - began
            pause = min(max(PAUSE_S, spent / SHARE), LONGEST_PAUSE_S)
            if idle:
                self._news.wait()
            elif pause > PAUSE_S:
                time.sleep(PAUSE_S)
                self._news.wait(pause - PAUSE_S)
            else:
                time.sleep(pause)
        center.close()

    def _round(self, center: Center) -> int:
        """Look at every open job once, as far as it costs C2 little; how many there are."""
        from qslurm.center.jobs import look

        followed = self._outbox.on_c2()
        listed: dict[int, JobInfo] = {}
        if len(followed) > FEW:
            slurm = center.slurm
            listed = {job.job_id: job for job in slurm.jobs() if job.user == slurm.user}
        one_by_one = FEW
        ended = []
        for number, key, job_id in followed:
            job = listed.get(job_id)
            if job is None or job.marks.key != key:
                if not one_by_one:
                    continue
                one_by_one -= 1
                try:
                    job = look(center, job_id)
                except UnknownJobError:
                    continue  # slurmdbd hears of a job some seconds late
            self._see(job)
            if job.is_final:
                ended.append(number)
        self._outbox.ended(ended)
        return len(followed)

    def _see(self, job: JobInfo) -> None:
        with self._lock:
            before = self._jobs.get(job.job_id)
            self._jobs[job.job_id] = job
            self._jobs.move_to_end(job.job_id)
            while len(self._jobs) > REMEMBERED:
                self._jobs.popitem(last=False)
        if before is None or mark(before) != mark(job):
            self._changed(job.job_id)
