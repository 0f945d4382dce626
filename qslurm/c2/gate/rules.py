"""What the gate decides, on plain data: states of partitions, jobs to release, tasks to close.

| wish    | backend in service | partition | new jobs | queued jobs | running jobs |
|---------|--------------------|-----------|----------|-------------|--------------|
| enabled | yes                | UP        | accepted | start       | go on        |
| enabled | no                 | DOWN      | accepted | wait        | go on        |
| drained | whatever           | DOWN      | accepted | wait        | go on        |
| closed  | yes                | DRAIN     | refused  | start       | go on        |
| closed  | no                 | INACTIVE  | refused  | wait        | go on        |
| none    | whatever           | DOWN      | accepted | wait        | go on        |

`closed` runs off what was accepted: an accepted job is a promise. Who wants neither new jobs nor starts closes the
partition and takes the backend offline.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from typing import Literal

import msgspec

from qslurm.c2.config.file import partition_of
from qslurm.c2.hooks.spool import DesiredState, EndedJob, TurnedAwayJob
from qslurm.c2.hooks.start_outcome import ending_reason, finish_of, told
from qslurm.protocol.messages import BackendStatus, Finish, KnownEnd, Status, TaskStatus
from qslurm.slurm.command_output import DrainedNode
from qslurm.slurm.job_info import JobInfo

PartitionState = Literal["UP", "DOWN", "DRAIN", "INACTIVE"]

REQUEUE_DELAY_S = 130
"""Slurm starts a requeued job again after about 120 s; a start time later than this was somebody's wish."""

LONGEST_PATIENCE_S = 60.0
"""Seconds between two releases of a job that is turned away again and again."""

EPILOG_GRACE_S = 10.0
"""Seconds in which a job's own epilog should have told the dispatcher of its end."""


OVER_GRACE_S = 15.0
"""Seconds in which slurmctld should hear from the node that a script has ended."""

LONGEST_PROLOG_S = 120.0
"""Seconds between a job's start, as slurmctld tells it, and its admission by its prolog, at most."""

SECOND_LAUNCH = "Duplicate jobid"
"""Why slurmctld drains a node that already runs the batch job which it is told to launch (agent.c, DSH_DUP_JOBID)."""

RESUMES, RESUMES_WITHIN_S = 10, 3600.0
"""How often such a node is put back within a time; after that an operator should look at it."""


class Target(msgspec.Struct, frozen=True):
    """The state a partition should have, and why."""

    state: PartitionState
    reason: str


def out_of_service(status: Status | None, backend: str) -> str:
    """Why jobs for a backend can't run at the moment; "" if they can. `status` None: the dispatcher is silent."""
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


def target(wish: DesiredState | None, trouble: str) -> Target:
    """The state for a partition, from the operator's wish and why its backend is out of service ("": it is not)."""
    if wish is None:
        return Target("DOWN", "not enabled by an operator")
    said = f"set to {wish.state} by {wish.by}" + (f": {wish.why}" if wish.why else "")
    match wish.state:
        case "drained":
            return Target("DOWN", said)
        case "closed":
            return Target("INACTIVE", f"{said}; {trouble}") if trouble else Target("DRAIN", said)
        case "enabled":
            return Target("DOWN", trouble) if trouble else Target("UP", "")


def patience(times: int) -> float:
    """Seconds a job waits after its n-th turning away in a row: none, 2, 4, 8 … up to a minute."""
    return 0.0 if times <= 1 else min(2.0 ** min(times - 1, 10), LONGEST_PATIENCE_S)


def release(
    record: TurnedAwayJob, job: JobInfo | None, *, runs: bool, now: float, age_s: float
) -> Literal["start", "wait", "forget"]:
    """What to do with a job that was turned away `age_s` ago; `runs`: its partition starts jobs.

    `now` is in Unix seconds, as Slurm's times are.

    Only a job that waits because of us is started: not one that is held, and not one whose owner has asked for a
    later start.
    """
    if job is None or job.is_final or job.state == "RUNNING":
        return "forget"
    if job.state != "PENDING" or job.eligible <= now:
        return "wait"
    if job.eligible > record.when + REQUEUE_DELAY_S:
        return "wait"
    return "start" if runs and age_s >= patience(record.times) else "wait"


def delivery(record: EndedJob, job: JobInfo | None, *, now: float, age_s: float) -> Finish | None:
    """What to tell the dispatcher of an end that is still to be delivered, `age_s` old; None: not yet known."""
    if record.state:
        return told(record)
    finish = finish_of(record.job_id, record.restart, record.key, job, now)
    if finish is None and age_s > EPILOG_GRACE_S:
        return _forgotten(record.job_id, record.restart, record.key)
    return finish


def overdue(task: TaskStatus, job: JobInfo | None, forgotten_s: float) -> tuple[Finish, float] | None:
    """The end of a task that Slurm no longer runs, and the seconds to wait for its own epilog; None: it runs.

    A running job that slurmctld does not know gets `forgotten_s`: after a crash of slurmctld it may well run on.
    """
    if job is None:
        patient = task.state == "running"
        return _forgotten(task.job_id, task.restart, ""), forgotten_s if patient else EPILOG_GRACE_S
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
    """Since when things are there, by seconds that only go forward: a clock that is put right makes nothing old.

    What a gate finds when it starts is new to it.
    """

    def __init__(self) -> None:
        self._since: dict[Hashable, float] = {}

    def of(self, names: Iterable[Hashable], now: float) -> dict[Hashable, float]:
        """How old each of these is (seconds), by its name; what is not among them is forgotten."""
        self._since = {name: self._since.get(name, now) for name in names}
        return {name: now - since for name, since in self._since.items()}


class NodeResumes:
    """Nodes to put back into service: a slurmctld that was killed just after it had started a job starts it again.

    slurmd refuses that, since the job runs, and slurmctld then drains the node. Nothing is wrong with it.
    """

    def __init__(self, slurm_uid: int) -> None:
        self._slurm_uid = slurm_uid
        self._resumed: dict[str, list[float]] = {}

    def due(self, nodes: Iterable[DrainedNode], now: float) -> list[str]:
        """The nodes to put back now (monotonic seconds). One with any other reason, or by anybody else, is not ours."""
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
    """Remembers since when tasks are overdue, so that each gets its time of grace."""

    def __init__(self, forgotten_s: float) -> None:
        self._forgotten_s = forgotten_s
        self._since: dict[tuple[int, int], float] = {}

    def due(self, tasks: list[TaskStatus], jobs: Mapping[int, JobInfo], now: float) -> list[Finish]:
        """The tasks to close now (monotonic seconds)."""
        late: dict[tuple[int, int], float] = {}
        closing = []
        for task in tasks:
            verdict = overdue(task, jobs.get(task.job_id), self._forgotten_s)
            if verdict is None:
                continue
            finish, grace_s = verdict
            name = (task.job_id, task.restart)
            late[name] = self._since.get(name, now)
            if now - late[name] >= grace_s:
                closing.append(finish)
        self._since = late
        return closing


class StuckJobs:
    """Remembers since when slurmctld calls jobs running that have ended: it was killed, and has forgotten that.

    An id proves nothing, since slurmctld gives those of forgotten jobs away again. A job counts only if it started
    when the start began that has ended, in the partition and with the restart count of that; and who cancels it
    looks at its key before.
    """

    def __init__(self) -> None:
        self._since: dict[KnownEnd, float] = {}

    @property
    def suspects(self) -> int:
        """How many jobs were called running at the last look that have ended."""
        return len(self._since)

    def due(self, running: Mapping[int, JobInfo], ends: Iterable[KnownEnd], now: float) -> list[KnownEnd]:
        """The ends of which slurmctld will not hear by itself soon (monotonic seconds)."""
        stuck = [end for end in ends if is_stuck(running.get(end.job_id), end)]
        self._since = {end: self._since.get(end, now) for end in stuck}
        return [end for end in stuck if now - self._since[end] >= OVER_GRACE_S]


def is_stuck(job: JobInfo | None, end: KnownEnd) -> bool:
    """Whether this is the very start of a job that has ended. A later one, and another job, began after that end."""
    return (
        job is not None
        and (job.state, job.restart_count) == ("RUNNING", end.restart)
        and job.partition == partition_of(end.backend)
        and end.admitted_at - LONGEST_PROLOG_S <= job.start <= end.ended_at
    )


def is_named(job: JobInfo, key: str, end: KnownEnd) -> bool:
    """Whether the job, which has this key, is of the submission that has ended."""
    return end.key == (f"{key}#{job.array_task_id}" if key and job.array_task_id is not None else key)
