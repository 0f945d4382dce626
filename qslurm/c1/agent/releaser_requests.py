"""Requests of the releaser: outcomes of submissions on which C1 jobs depend (follow-ups and waiting jobs)."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from qslurm.c1.agent.job_owners import reused_id
from qslurm.c1.agent.reconcile import LOST_FOR_GOOD
from qslurm.c1.connection.agent_messages import (
    CancelBound,
    GetOutcomes,
    GetReleaser,
    Outcomes,
    ReleaserState,
    SubmissionOutcome,
    Submit,
    Unbind,
)
from qslurm.errors import (
    JobCancelledError,
    PermissionDeniedError,
    QslurmError,
    TimedOutError,
    UnknownJobError,
)
from qslurm.slurm.states import explain
from qslurm.system.event_log import EventLog

if TYPE_CHECKING:
    from qslurm.c1.agent.job_tracker import JobTracker
    from qslurm.c1.agent.outbox import EntryStatus, Outbox
    from qslurm.c1.agent.user import User
    from qslurm.c1.agent.wait_bindings import WaitBindings
    from qslurm.c1.config.settings import Config
    from qslurm.c1.connection.center_connection import CenterConnection

log = EventLog(__name__)

MAX_ENDED = 50
"""Maximum ended submissions in one response, since each is verified with C2."""

NOT_ENDED = ("open", "unknown")


class ReleaserRequests:
    """Answers the releaser. Thread-safe; `center` is the calling thread's connection."""

    def __init__(self, config: Config, outbox: Outbox, bindings: WaitBindings, tracker: JobTracker) -> None:
        self._releaser, self._platform = config.agent.releaser, config.platform
        self._outbox = outbox
        self._bindings = bindings
        self._tracker = tracker
        self._revision = 0
        self._has_bindings = False  # the releaser was told of waiting C1 jobs, so it polls often
        self._last_request = time.monotonic()

    def releaser(self) -> ReleaserState:
        """The releaser, and whether it is active."""
        if not self._releaser:
            return ReleaserState("")
        return ReleaserState(self._platform, time.monotonic() - self._last_request)

    def register(self, request: Submit) -> None:
        """Register a C1 job that depends on a submission about to be accepted."""
        if request.waits:
            self._bindings.bind(request.key, request.waits)
        if request.followed or (request.waits and not self._has_bindings):
            self._revision += 1

    def answer(
        self, user: User, request: GetReleaser | Unbind | GetOutcomes | CancelBound, center: CenterConnection
    ) -> Any:
        """Answer a request about them; most are allowed only for the releaser and admins."""
        match request:
            case GetReleaser():
                return self.releaser()
            case Unbind(key=key):
                status = self._outbox.statuses([key]).get(key)
                return self._bindings.unbind(key) if status is not None and status.user == user.name else None
        if not user.admin and (not self._releaser or user.name != self._releaser):
            raise PermissionDeniedError(
                f"User {user.name} is not this center's releaser.",
                hint="Set releaser under [agent] in the agent's configuration.",
            )
        return (
            self._end(center, request.key)
            if isinstance(request, CancelBound)
            else self._outcomes(center, request)
        )

    def _outcomes(self, center: CenterConnection, request: GetOutcomes) -> Outcomes:
        """The submissions' current outcomes."""
        self._last_request = time.monotonic()
        revision = self._revision  # read first, so that later changes are reported next time
        found: list[SubmissionOutcome] = []
        statuses, ended = self._outbox.statuses(request.keys), 0
        for key in request.keys:
            if ended == MAX_ENDED:
                break
            found.append(self._job_outcome(center, key, statuses.get(key)))
            ended += found[-1].how not in NOT_ENDED
        bound = self._bindings.bound_jobs(request.cluster)
        self._has_bindings = bool(bound)
        return Outcomes(found, bound, revision)

    def _end(self, center: CenterConnection, key: str) -> None:
        """Cancel a submission's job after the C1 job that waited for it has ended.

        A submission that C2 has not answered yet, or whose job it has lost, can't be cancelled: the releaser retries.
        """
        entry = self._outbox.by_key(key)
        if entry is not None and not entry.ended and self._bindings.has_binding(key):
            if entry.job_id is None or not _has(center, entry.job_id, key):
                return
            center.slurm.cancel(entry.job_id)
            self._tracker.cancellations.add(entry.number, key, entry.job_id)
            self._tracker.wake()
            log.info(
                "cancelled",
                job=entry.job_id,
                key=key,
                user=entry.user,
                reason="the C1 job that waited for it has ended",
            )
        self._bindings.unbind(key)

    def _job_outcome(
        self, center: CenterConnection, key: str, status: EntryStatus | None
    ) -> SubmissionOutcome:
        if status is None:
            return SubmissionOutcome(key, "unknown")
        if status.state == "refused":
            return SubmissionOutcome(key, "refused", status.user, why=str(status.answer.get("message", "")))
        if status.state == "lost":
            return SubmissionOutcome(key, "lost", status.user, status.job_id or 0, explain(LOST_FOR_GOOD))
        if status.job_id is None or not status.ended:
            return SubmissionOutcome(key, "open", status.user, status.job_id or 0)
        try:
            how, why = _job_outcome(center, status.job_id, key)
        except UnknownJobError:
            how, why = "lost", ""
        except QslurmError as error:  # C2 is unreachable: report it later
            log.warning("cannot query C2 for a job's outcome", job=status.job_id, reason=error.message)
            how, why = "open", ""
        return SubmissionOutcome(key, how, status.user, status.job_id, why)


def _has(center: CenterConnection, job_id: int, key: str) -> bool:
    """Whether C2 has this submission's job under that id."""
    try:
        tasks = center.slurm.tasks(job_id)
    except UnknownJobError:
        return False
    return all(job.marks.key in ("", key) for job in tasks)


def _job_outcome(center: CenterConnection, job_id: int, key: str) -> tuple[str, str]:
    """The outcome of a job or of all tasks of an array, and the reason; "open" if some have not ended."""
    from qslurm.c1.queries.job_ids import JobRef
    from qslurm.c1.queries.tasks import look, outcome_error

    tasks = look(center, JobRef(job_id))
    if any(job.marks.key not in ("", key) for job in tasks.jobs):
        raise reused_id(job_id)
    if not tasks.is_final:
        return "open", ""
    error = outcome_error(center, tasks)
    if error is None:
        return "completed", ""
    how = {JobCancelledError: "cancelled", TimedOutError: "timed_out"}.get(type(error), "failed")
    return how, error.message
