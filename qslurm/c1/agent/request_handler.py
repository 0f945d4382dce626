"""Handles users' requests: checks ownership, and queries C2."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import msgspec

from qslurm.c1.agent.change_log import ChangeLog
from qslurm.c1.agent.intake import Intake
from qslurm.c1.agent.job_identity import job_of
from qslurm.c1.agent.job_owners import JobOwners, reused_id
from qslurm.c1.agent.limits import limits_of
from qslurm.c1.agent.missing_jobs import AboutJob, MissingJobs
from qslurm.c1.agent.reconcile import LOST, Reconciler, pending_job
from qslurm.c1.agent.user import User
from qslurm.c1.agent.user_queue import list_queue
from qslurm.c1.connection.agent_messages import (
    AgentIdentity,
    AgentRequest,
    AgentStatus,
    CancelBound,
    CancelJob,
    ChangedJobs,
    GetAccounted,
    GetAgentStatus,
    GetBackends,
    GetChangedJobs,
    GetEnded,
    GetIdentity,
    GetJob,
    GetJobs,
    GetLoads,
    GetLog,
    GetOutcomes,
    GetPartitions,
    GetPlatformRecord,
    GetQueue,
    GetReleaser,
    GetResults,
    GetSessions,
    GetStarts,
    GetTasks,
    GetUsage,
    LogPiece,
    Submit,
    TokenState,
    Unbind,
    UpdateJob,
)
from qslurm.c1.queries.lost_jobs import is_forgotten, may_be_lost
from qslurm.errors import NotReadyError, QslurmError, UnknownJobError
from qslurm.slurm.job_info import JobInfo

if TYPE_CHECKING:
    from qslurm.c1.agent.job_tracker import JobTracker
    from qslurm.c1.agent.outbox import Entry, Outbox
    from qslurm.c1.agent.releaser_requests import ReleaserRequests
    from qslurm.c1.agent.sender import SenderPool
    from qslurm.c1.config.settings import AgentSettings
    from qslurm.c1.connection.center_connection import CenterConnection

BACKENDS_S = 60.0
"""Seconds to cache C2's backends (or their absence) for submissions."""

MAX_STATES = 1000
"""Maximum job states in a response to GetChangedJobs; the client queries the others."""

LISTED = 1000
"""Maximum submissions in a list, the newest."""


class RequestHandler:
    """Handles requests. Thread-safe; each thread has its own connection to C2."""

    def __init__(
        self,
        settings: AgentSettings,
        outbox: Outbox,
        connect: Callable[[], CenterConnection],
        sender: SenderPool,
        tracker: JobTracker,
        *,
        token: Callable[[], TokenState] | None = None,
        releaser_requests: ReleaserRequests,
        reconciler: Reconciler | None = None,
        change_log: ChangeLog | None = None,
    ) -> None:
        self._settings = settings
        self._missing = MissingJobs(
            outbox, Reconciler(outbox, sender.wake) if reconciler is None else reconciler, tracker, sender
        )
        self._outbox = outbox
        self._connect = connect
        self._sender = sender
        self._tracker = tracker
        self._token = token
        self._releaser_requests = releaser_requests
        self._change_log = change_log or ChangeLog(outbox.owners, lambda _: None)
        self._local = threading.local()
        self._backends: tuple[float, list[dict[str, Any]]] = (float("-inf"), [])
        self.intake = Intake(settings, outbox, sender, releaser_requests)
        self._owners = JobOwners(outbox, self._missing, lambda: self._center)

    def answer(self, user: User, request: AgentRequest) -> Any:
        """The response to a request, of the type that its docstring names; raises QslurmError."""
        match request:
            case Submit():
                return self.intake.take(user, request)
            case GetJobs() | GetQueue() | GetAccounted() | GetUsage() | GetEnded():
                return self._several_jobs(user, request)
            case GetIdentity():
                return AgentIdentity(self._center.slurm.user, self._center.slurm.api_version)
            case GetBackends() | GetSessions() | GetPartitions() | GetLoads():
                return self._platform(user, request)
            case GetAgentStatus():
                return self._status()
            case GetReleaser() | Unbind() | GetOutcomes() | CancelBound():
                return self._releaser_requests.answer(user, request, self._center)
            case GetChangedJobs(since=since):
                return self._changed_jobs(user, since)
            case GetStarts(key=key):
                return self._starts(user, key)
            case GetResults(jobs=jobs):
                return self._results(user, jobs)
            case _:
                return self._one_job(request, self._owners.owned(user, request.job_id))

    def _changed_jobs(self, user: User, since: int) -> ChangedJobs:
        """The user's jobs that changed, with the states of those that are followed."""
        changed = self._change_log.since(since, user.name)
        for job_id in changed.jobs:
            entry = self._outbox.by_job(job_id, user.name)
            if entry is None or entry.job_id != job_id or self._missing.is_gone(entry):
                continue
            tasks = self._tracker.tasks(job_id, entry.key)
            if len(changed.states) + len(tasks) > MAX_STATES:
                break
            self._owners.remember(entry, tasks)
            changed.states += tasks
        return changed

    def _cached_backends(self) -> list[dict[str, Any]]:
        read_at, known = self._backends
        if time.monotonic() - read_at > BACKENDS_S:
            with suppress(QslurmError):  # while C2 is unreachable, keep the last ones
                known = self._center.job_manager.limits()
            self._backends = time.monotonic(), known
        return known

    def _platform(self, user: User, request: GetBackends | GetSessions | GetPartitions | GetLoads) -> Any:
        """Answer a request that concerns no user's jobs."""
        match request:
            case GetBackends(at_hand=at_hand):
                named = limits_of(self._settings, user.name).backends
                known = self._cached_backends() if at_hand else self._center.job_manager.backends()
                return [{**one, "allowed": not named or one["name"] in named} for one in known]
            case GetSessions():
                return self._center.job_manager.sessions()
            case GetLoads():
                return self._center.job_manager.loads()
            case GetPartitions():
                return self._center.slurm.partitions()

    def _several_jobs(
        self, user: User, request: GetJobs | GetQueue | GetAccounted | GetUsage | GetEnded
    ) -> Any:
        """Answer a request about several jobs: the user's, or all for an admin."""
        match request:
            case GetJobs(key=key):
                return self._jobs(user, key)
            case GetQueue():
                whose = None if user.admin else user.name
                return list_queue(whose, self._outbox, self._tracker, self._center, self._job_of_entry)
            case GetAccounted(since=since, array=array):
                return self._accounted(user, since, array)
            case GetUsage(since=since, until=until):
                return self._usage_of(user, self._center.job_manager.usage(since, until))
            case GetEnded(limit=limit):
                return self._owned_by(user, self._center.job_manager.jobs(limit))

    def _starts(self, user: User, key: str) -> list[dict[str, Any]]:
        entry = self._outbox.by_key(key)
        may = user.admin or (entry is not None and entry.user == user.name)
        return self._center.job_manager.starts(key) if may else []

    def _results(self, user: User, jobs: list[int]) -> list[dict[str, Any]]:
        """The results of these jobs, as many as fit; for other users' jobs, that there are none."""
        found = self._center.job_manager.many_results(jobs) if jobs else []
        theirs = {
            one["job_id"]: one for one in self._owned_by(user, [one for one in found if "error" not in one])
        }
        return [theirs.get(one["job_id"]) or _nothing(one["job_id"]) for one in found]

    def _one_job(self, request: AboutJob, entry: Entry | None) -> Any:
        """Answer a request about one job that the user may access."""
        if entry is not None:
            if self._missing.is_gone(entry):
                return self._missing.answer(request, entry, self._center.slurm.user)
            if entry.job_id and self._outbox.had_job_id(entry.number, request.job_id):
                request = msgspec.structs.replace(request, job_id=entry.job_id)
        match request:
            case GetJob():
                return self._job(request.job_id, entry)
            case GetTasks():
                return self._tasks(request.job_id, entry)
            case CancelJob():
                return self._cancel(request.job_id, request.task, entry)
            case UpdateJob():
                self._owners.refuse_another(request.job_id, entry)
                return self._center.slurm.update(request.job_id, {"hold": request.hold})
            case GetPlatformRecord() | GetLog():
                return self._platform_record(request, entry)

    def _job(self, job_id: int, entry: Entry | None) -> JobInfo:
        from qslurm.c1.queries.job_state import look

        job = self._tracker.job(job_id)
        if job is None or (entry is not None and job.marks.key != entry.key):
            try:
                job = look(self._center, job_id, entry.key if entry else "")
            except UnknownJobError:  # slurmdbd learns of a job seconds late, or C2 lost it
                if entry is None or entry.ended:
                    raise
                self._missing.suspect(entry, sure=False)
                return self._missing.job(entry, job_id, self._center.slurm.user)
            self._record(entry, [job])
        if entry is None:
            return job
        its_own = job_of(entry, job)
        if its_own is None and entry.ended:
            raise reused_id(job_id)
        if its_own is None or (not entry.ended and self._is_lost(job)):
            self._missing.suspect(entry)
            return self._missing.job(entry, job_id, self._center.slurm.user)
        return its_own

    def _is_lost(self, job: JobInfo) -> bool:
        """Whether an open submission's job may not have run, whatever its state says."""
        return may_be_lost(job, has_job_manager=self._center.has_job_manager)

    def _tasks(self, job_id: int, entry: Entry | None) -> list[JobInfo]:
        tasks = self._tracker.tasks(job_id, entry.key) if entry else []
        if not tasks:
            with suppress(UnknownJobError):
                tasks = self._center.slurm.tasks(job_id)
            if not tasks:
                return [self._job(job_id, entry)]
            if entry and any(
                job_of(entry, job) is None or is_forgotten(job) or self._is_lost(job) for job in tasks
            ):
                return [self._job(job_id, entry)]
            self._record(entry, tasks)
            tasks = [job_of(entry, job) or job for job in tasks] if entry else tasks
        if entry is not None:
            self._owners.remember(entry, tasks)
        return tasks

    def _record(self, entry: Entry | None, jobs: list[JobInfo]) -> None:
        """Record slurmrestd's state of an open job, so that no earlier state is reported later.

        Jobs that may be lost are left out: they would count as shown by C2, and not be reconciled.
        """
        if entry is not None and not entry.ended:
            known = [job for job in jobs if not is_forgotten(job) and not self._is_lost(job)]
            self._tracker.record([job for job in known if job_of(entry, job) is not None])

    def _jobs(self, user: User, key: str) -> list[JobInfo]:
        if key:
            one = self._outbox.by_key(key)
            entries = [one] if one is not None and (user.admin or one.user == user.name) else []
        else:
            entries = self._outbox.latest(None if user.admin else user.name, LISTED)
        jobs = [job for entry in entries if entry.state != "refused" and (job := self._job_of_entry(entry))]
        if key and entries and not jobs and entries[0].job_id is not None:  # it ended long ago
            jobs = [self._job(entries[0].job_id, entries[0])]
        if key or user.admin:
            return jobs
        others = (entry for entry in self._outbox.open_entries() if entry.user != user.name)
        return jobs + [_faceless(job) for entry in others if (job := self._job_of_entry(entry))]

    def _job_of_entry(self, entry: Entry) -> JobInfo | None:
        """A submission's job as last seen; None if it ended long ago."""
        if entry.job_id is not None:
            seen = self._tracker.job(entry.job_id)
            if seen is not None and seen.marks.key == entry.key:
                return seen
        if entry.state == "lost":
            return self._missing.job(entry, entry.job_id or 0, self._center.slurm.user)
        if entry.ended:
            return None
        if entry.job_id is not None and self._missing.is_gone(entry):
            reason = LOST
        else:
            reason = "Submitted" if entry.job_id else self._sender.trouble.get(entry.key, "Outbox")
        return msgspec.structs.replace(pending_job(entry, reason), user=self._center.slurm.user)

    def _accounted(self, user: User, since: int, array: int) -> list[JobInfo]:
        slurm = self._center.slurm
        jobs = slurm.accounted_tasks(array) if array else slurm.accounted(since)
        if user.admin:
            return jobs
        owners = self._outbox.owners([job.marks.key for job in jobs])
        return [job for job in jobs if owners.get(job.marks.key) == user.name]

    def _platform_record(
        self, request: GetPlatformRecord | GetLog, entry: Entry | None
    ) -> dict[str, Any] | LogPiece:
        """The platform's record of a job, if it is the user's; ids may be reused."""
        platform, job_id = self._center.job_manager, request.job_id
        what = request.what if isinstance(request, GetPlatformRecord) else "job"
        try:
            found = platform.results(job_id) if what == "results" else platform.job(job_id)
        except UnknownJobError:
            if isinstance(request, GetPlatformRecord):
                raise
            found = {}  # a job that the platform rejected may have a log
        if entry is not None and str(found.get("key", "")).partition("#")[0] not in ("", entry.key):
            if entry.ended:
                raise reused_id(job_id)
            raise NotReadyError(
                f"Job {job_id} has not started yet.", hint=f"`qslurm wait {job_id}` waits for it."
            )
        return (
            found
            if isinstance(request, GetPlatformRecord)
            else LogPiece(*platform.log_from(job_id, request.offset))
        )

    def _owned_by(self, user: User, documents: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """The documents of the user's jobs; a task's key has its index appended."""
        if user.admin:
            return documents
        keys = [str(one.get("key", "")).partition("#")[0] for one in documents]
        owners = self._outbox.owners(keys)
        return [one for one, key in zip(documents, keys, strict=True) if owners.get(key) == user.name]

    def _usage_of(self, user: User, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        from qslurm.c1.origin import user_of

        return rows if user.admin else [row for row in rows if user_of(row["origin"]) == user.name]

    def _status(self) -> AgentStatus:
        assert self._token is not None
        submissions = self._outbox.open_entries()
        waiting = sum(entry.job_id is None for entry in submissions)
        open_there, releaser = len(submissions) - waiting, self._releaser_requests.releaser()
        return AgentStatus(self._token(), waiting, open_there, releaser if releaser.name else None)

    def _cancel(self, job_id: int, task: int | None, entry: Entry | None) -> list[str]:
        self._owners.refuse_another(job_id, entry)
        warnings = self._center.slurm.cancel(job_id, task)
        if entry is not None and task is None and job_id == entry.job_id:  # the whole of it
            self._tracker.cancellations.add(entry.number, entry.key, job_id)
        self._tracker.wake()
        return warnings

    @property
    def _center(self) -> CenterConnection:
        """The calling thread's connection."""
        if not hasattr(self._local, "center"):
            self._local.center = self._connect()
        center: CenterConnection = self._local.center
        return center


def _nothing(job_id: int) -> dict[str, Any]:
    error = UnknownJobError(f"You have no job {job_id} on C2.")
    return {"job_id": job_id, "error": {"type": error.kind, "message": error.message}}


def _faceless(job: JobInfo) -> JobInfo:
    """Another user's job, with what users may see of it in the queue."""
    return JobInfo(
        job_id=job.job_id,
        state=job.state,
        reason=job.reason,
        partition=job.partition,
        priority=job.priority,
    )
