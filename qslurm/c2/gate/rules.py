"""The gate's decisions, on plain data: states of partitions, jobs to release, tasks to close.

| desired | backend in service | partition | new jobs | queued jobs | running jobs |
|---------|--------------------|-----------|----------|-------------|--------------|
| enabled | yes                | UP        | accepted | start       | go on        |
| enabled | no                 | DOWN      | accepted | wait        | go on        |
| drained | any                | DOWN      | accepted | wait        | go on        |
| closed  | yes                | DRAIN     | refused  | start       | go on        |
| closed  | no                 | INACTIVE  | refused  | wait        | go on        |
| not set | any                | DOWN      | accepted | wait        | go on        |

`closed` still runs the jobs that were accepted. For neither new jobs nor starts, close the partition and take the
backend offline.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from typing import Literal

import msgspec

from qslurm.c2.config.file import partition_of
from qslurm.c2.hooks.spool import DesiredState, EndedJob, TurnedAwayJob
from qslurm.c2.hooks.start_outcome import ending_reason, finish_message, finish_of
from qslurm.protocol.messages import BackendStatus, Finish, KnownEnd, Status, TaskStatus
from qslurm.slurm.command_output import DrainedNode
from qslurm.slurm.job_info import JobInfo

PartitionState = Literal["UP", "DOWN", "DRAIN", "INACTIVE"]

REQUEUE_DELAY_S = 130
"""Slurm starts a requeued job again after about 120 s; a later start time was requested by the user."""

LONGEST_BACKOFF_S = 60.0
"""Maximum seconds between two releases of a job that is requeued again and again."""

EPILOG_GRACE_S = 10.0
"""Seconds after which a job's own epilog should have reported its end to the dispatcher."""

OVER_GRACE_S = 15.0
"""Seconds after which slurmctld should know from the node that a script has ended."""

LONGEST_PROLOG_S = 120.0
"""Maximum seconds between a job's start time in slurmctld and its admission by its prolog."""

SECOND_LAUNCH = "Duplicate jobid"
"""The reason of a node that slurmctld drained because it launched a batch job there twice (agent.c, DSH_DUP_JOBID)."""

RESUMES, RESUMES_WITHIN_S = 10, 3600.0
"""How often such a node is resumed within this time; then it is left to an operator."""


class Target(msgspec.Struct, frozen=True):
    """The state a partition should have, and why."""

    state: PartitionState
    reason: str


def out_of_service(status: Status | None, backend: str) -> str:
    """Why a backend's jobs can't run now; "" if they can. `status` is None if the dispatcher does not answer."""
    if status is None:
        return "the dispatcher does not respond"
    if not status.ready:
        return status.reason or "the dispatcher is not ready"
    found = next((one for one in status.backends if one.name == backend), None)
    if found is None:
        return f"the dispatcher has no backend {backend}"
    return _trouble(found)


def _trouble(backend: BackendStatus) -> str:
    if backend.state == "offline":
        return backend.reason or f"backend {backend.name} is offline"
    if backend.state == "calibrating":
        more = f": {backend.reason}" if backend.reason else ""
        return f"backend {backend.name} is calibrating{more}"
    return ""


def target(desired: DesiredState | None, trouble: str) -> Target:
    """A partition's state, from its desired state and why its backend is out of service ("" if it is in service)."""
    if desired is None:
        return Target("DOWN", "not enabled by an operator")
    reason = f"set to {desired.state} by {desired.by}" + (f": {desired.why}" if desired.why else "")
    match desired.state:
        case "drained":
            return Target("DOWN", reason)
        case "closed":
            return Target("INACTIVE", f"{reason}; {trouble}") if trouble else Target("DRAIN", reason)
        case "enabled":
            return Target("DOWN", trouble) if trouble else Target("UP", "")


def backoff_s(times: int) -> float:
    """Seconds a job waits after it was requeued `times` times in a row: 0, 2, 4, 8 … up to a minute."""
    return 0.0 if times <= 1 else min(2.0 ** min(times - 1, 10), LONGEST_BACKOFF_S)


def release(
    record: TurnedAwayJob, job: JobInfo | None, *, runs: bool, now: float, age_s: float
) -> Literal["start", "wait", "remove"]:
    """What to do with a job that was requeued `age_s` ago; `runs` tells whether its partition starts jobs.

    `now` is in Unix seconds. Not started are jobs that are held, and those whose user requested a later start.
    """
    if job is None or job.is_final or job.state == "RUNNING":
        return "remove"
    if job.state != "PENDING" or job.eligible <= now:
        return "wait"
    if job.eligible > record.when + REQUEUE_DELAY_S:
        return "wait"
    return "start" if runs and age_s >= backoff_s(record.times) else "wait"


def delivery(record: EndedJob, job: JobInfo | None, *, now: float, age_s: float) -> Finish | None:
    """What to report to the dispatcher for an undelivered end that is `age_s` old; None if not known yet."""
    if record.state:
        return finish_message(record)
    finish = finish_of(record.job_id, record.restart, record.key, job, now)
    if finish is None and age_s > EPILOG_GRACE_S:
        return _forgotten(record.job_id, record.restart, record.key)
    return finish


def overdue(task: TaskStatus, job: JobInfo | None, forgotten_s: float) -> tuple[Finish, float] | None:
    """The end of a task that Slurm no longer runs, and the seconds to wait for its own epilog; None if it runs.

    A running task that slurmctld does not know gets `forgotten_s`: after a crash of slurmctld it may still run.
    """
    if job is None:
        may_run = task.state == "running"
        return _forgotten(task.job_id, task.restart, ""), forgotten_s if may_run else EPILOG_GRACE_S
    if job.restart_count > task.restart:
        return Finish(job_id=task.job_id, restart=task.restart, state="REQUEUED"), EPILOG_GRACE_S
    if not job.is_final:
        return None
    finish = Finish(
        job_id=task.job_id,
        restart=task.restart,
        state=job.state,
        exit_code=job.status >> 8,
        reason=ending_reason(job),
        ended_at=float(job.end) if job.end else None,
    )
    return finish, EPILOG_GRACE_S


def _forgotten(job_id: int, restart: int, key: str) -> Finish:
    return Finish(
        job_id=job_id, restart=restart, state="NODE_FAIL", reason="Slurm no longer knows the job", key=key
    )


class Ages:
    """Ages of records in monotonic seconds, so that a change of the clock has no effect. They count from the gate's
    start, for records that existed before.
    """

    def __init__(self) -> None:
        self._since: dict[Hashable, float] = {}

    def of(self, names: Iterable[Hashable], now: float) -> dict[Hashable, float]:
        """The age of each of these names in seconds; others are dropped."""
        self._since = {name: self._since.get(name, now) for name in names}
        return {name: now - since for name, since in self._since.items()}


class NodeResumes:
    """Healthy nodes to resume: a slurmctld that was killed just after it launched a job launches it again.

    slurmd refuses, because the job runs, and slurmctld then drains the node.
    """

    def __init__(self, slurm_uid: int) -> None:
        self._slurm_uid = slurm_uid
        self._resumed: dict[str, list[float]] = {}

    def due(self, nodes: Iterable[DrainedNode], now: float) -> list[str]:
        """The nodes to resume at `now` (monotonic seconds): those that slurmctld itself drained, for this reason."""
        names = []
        for node in nodes:
            if node.reason != SECOND_LAUNCH or node.by != self._slurm_uid:
                continue
            lately = [at for at in self._resumed.get(node.name, []) if now - at < RESUMES_WITHIN_S]
            if len(lately) < RESUMES:
                names.append(node.name)
                lately.append(now)
            self._resumed[node.name] = lately
        return names


class OverdueTasks:
    """Finds tasks whose job has ended without an epilog, after a grace period for each."""

    def __init__(self, forgotten_s: float) -> None:
        self._forgotten_s = forgotten_s
        self._since: dict[tuple[int, int], float] = {}

    def due(self, tasks: list[TaskStatus], jobs: Mapping[int, JobInfo], now: float) -> list[Finish]:
        """The ends to report at `now` (monotonic seconds)."""
        late: dict[tuple[int, int], float] = {}
        closing = []
        for task in tasks:
            ended = overdue(task, jobs.get(task.job_id), self._forgotten_s)
            if ended is None:
                continue
            finish, grace_s = ended
            name = (task.job_id, task.restart)
            late[name] = self._since.get(name, now)
            if now - late[name] >= grace_s:
                closing.append(finish)
        self._since = late
        return closing


class StuckJobs:
    """Finds ended jobs that slurmctld lists as running, because it was killed before it saved their end.

    An id is no proof, since slurmctld reuses the ids of jobs it has lost. A job counts only if its start time,
    partition and restart count are those of the start that has ended; the caller compares the key before it cancels.
    """

    def __init__(self) -> None:
        self._since: dict[KnownEnd, float] = {}

    @property
    def suspects(self) -> int:
        """Number of such jobs at the last call of `due`."""
        return len(self._since)

    def due(self, running: Mapping[int, JobInfo], ends: Iterable[KnownEnd], now: float) -> list[KnownEnd]:
        """The ends that slurmctld has missed for OVER_GRACE_S at `now` (monotonic seconds)."""
        stuck = [end for end in ends if is_stuck(running.get(end.job_id), end)]
        self._since = {end: self._since.get(end, now) for end in stuck}
        return [end for end in stuck if now - self._since[end] >= OVER_GRACE_S]


def is_stuck(job: JobInfo | None, end: KnownEnd) -> bool:
    """Whether this is the start of a job that has ended; a later start, and another job, began after that end."""
    return (
        job is not None
        and (job.state, job.restart_count) == ("RUNNING", end.restart)
        and job.partition == partition_of(end.backend)
        and end.admitted_at - LONGEST_PROLOG_S <= job.start <= end.ended_at
    )


def is_named(job: JobInfo, key: str, end: KnownEnd) -> bool:
    """Whether the job with this key belongs to the submission that has ended."""
    return end.key == (f"{key}#{job.array_task_id}" if key and job.array_task_id is not None else key)
