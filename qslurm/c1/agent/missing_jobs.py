"""Answers about jobs that C2 has lost, or does not show yet."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import msgspec

from qslurm.c1.agent.reconcile import LOST, LOST_FOR_GOOD, Reconciler, lost_job, pending_job
from qslurm.c1.agent.sender import stored_error
from qslurm.c1.connection.agent_messages import (
    CancelJob,
    GetJob,
    GetLog,
    GetPlatformRecord,
    GetTasks,
    UpdateJob,
)
from qslurm.errors import JobCancelledError, JobFailedError, NotReadyError
from qslurm.slurm.states import explain
from qslurm.wire.failures import Failed, error_of

if TYPE_CHECKING:
    from qslurm.c1.agent.job_tracker import JobTracker
    from qslurm.c1.agent.outbox import Entry, Outbox
    from qslurm.c1.agent.sender import SenderPool, SenderThread
    from qslurm.slurm.job_info import JobInfo

AboutJob = GetJob | GetTasks | CancelJob | UpdateJob | GetPlatformRecord | GetLog
"""Requests about one job."""


class MissingJobs:
    """Answers for jobs that are being checked or resubmitted."""

    def __init__(
        self, outbox: Outbox, reconciler: Reconciler, tracker: JobTracker, sender: SenderThread | SenderPool
    ) -> None:
        self._outbox = outbox
        self._reconciler = reconciler
        self._tracker = tracker
        self._sender = sender

    def is_gone(self, entry: Entry) -> bool:
        """Whether C2 has lost this submission's job, as far as known; its id may be reused."""
        if entry.ended and entry.state not in ("refused", "lost"):
            return False
        if entry.state == "lost":
            return True
        return entry.job_id is None or self._reconciler.is_suspect(entry.number)

    def suspect(self, entry: Entry, *, sure: bool = True) -> None:
        """Report that C2 does not show the job; `sure` if it reused the id or lost the job."""
        self._reconciler.suspect(entry.number, time.monotonic(), sure=sure)
        self._tracker.wake()

    def answer(self, request: AboutJob, entry: Entry, user: str) -> Any:
        """The answer about a lost job; `user` is the center's user on C2."""
        if entry.state == "refused":
            raise error_of(msgspec.convert(entry.answer, Failed))
        match request:
            case GetJob():
                return self.job(entry, request.job_id, user)
            case GetTasks():
                return [self.job(entry, request.job_id, user)]
            case CancelJob() if entry.state == "lost":
                return ["C2 lost the job; it is not resubmitted."]
            case CancelJob(task=None):
                why = JobCancelledError(
                    f"Job {request.job_id} was cancelled before it was resubmitted to C2."
                )
                if self._outbox.cancel_waiting(entry.number, stored_error(why)):
                    return ["C2 lost the job; it will not be resubmitted."]
        if entry.state == "lost":
            raise JobFailedError(f"Job {request.job_id} failed: {explain(LOST_FOR_GOOD)}.")
        raise NotReadyError(
            f"C2 lost job {request.job_id}; the center's agent checks whether it ran, and resubmits it if not.",
            hint="Try again in a minute.",
        )

    def job(self, entry: Entry, job_id: int, user: str) -> JobInfo:
        """The job as last seen, or as pending, under the id that its user knows."""
        if entry.state == "lost":
            return msgspec.structs.replace(lost_job(entry), job_id=job_id, user=user)
        seen = self._tracker.job(job_id)
        if seen is not None and seen.marks.key == entry.key and entry.job_id == job_id:
            return msgspec.structs.replace(seen, source="slurmctld")  # who asks is not to judge it again
        reason = LOST if self.is_gone(entry) else "Submitted"
        if entry.job_id is None:
            reason = self._sender.trouble.get(entry.key, LOST)
        return msgspec.structs.replace(pending_job(entry, reason), job_id=job_id, user=user)
