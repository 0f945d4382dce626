"""Lists: the queue with positions, ended jobs, usage, backends."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from qslurm.c1.origin import user_of
from qslurm.errors import RefusedError, UnknownJobError, UnreachableError
from qslurm.protocol.partition_queue import partition_loads, queue_positions

if TYPE_CHECKING:
    from qslurm.c1.connection.center_connection import CenterConnection
    from qslurm.protocol.job_changes import PartitionLoad
    from qslurm.slurm.job_info import JobInfo


Positions = list[tuple["JobInfo", "int | None"]]


def queue_with_positions(center: CenterConnection) -> Positions:
    """The center's jobs, or the user's through an agent, with their queue positions.

    C2's job manager knows the positions among the jobs of all centers. slurmrestd's list is large and slow, and gives
    positions only among the jobs that C2 shows to this center.
    """
    if center.has_job_manager:
        try:
            found = center.job_manager.queue()
        except (UnreachableError, UnknownJobError):  # it has no view of the queue, or is an older version
            pass
        else:
            positions = dict(found.places)
            return [(job, positions.get(job.job_id)) for job in found.jobs]
    jobs, user = center.slurm.jobs(), center.slurm.user
    positions = queue_positions(jobs)
    return [(job, positions.get(job.job_id)) for job in jobs if job.user == user]


class EndedJobUsage(msgspec.Struct, frozen=True, kw_only=True):
    """An ended job: Slurm's record, and the platform's counts (None if unknown)."""

    job: JobInfo
    executions: int | None = None
    shots: int | None = None
    qpu_seconds: float | None = None


def history(
    center: CenterConnection, since: int, until: int, say: Callable[[str], None]
) -> list[EndedJobUsage]:
    """The center's jobs that ended in a period (Unix seconds), by end time.

    Without an answer from C2's job manager the counts are unknown, which is reported with `say`.
    """
    jobs = [
        job for job in center.slurm.accounted(since) if job.is_final and since <= (job.end_time or 0) <= until
    ]
    jobs.sort(key=lambda job: (job.end_time or 0, job.job_id))
    try:
        counted = _counted(center)
    except (UnreachableError, RefusedError) as error:
        counted = {}
        say(f"Cannot read what was executed: {error}")
    return [_ended(job, counted.get((job.job_id, job.marks.key))) for job in jobs]


def _counted(center: CenterConnection) -> dict[tuple[int, str], dict[str, Any]]:
    """The platform's records of the latest jobs; empty without a job manager."""
    documents = center.job_manager.jobs() if center.has_job_manager else []
    # The key of an array's task ends in its index.
    return {(doc["job_id"], str(doc.get("key", "")).partition("#")[0]): doc for doc in reversed(documents)}


def _ended(job: JobInfo, document: Mapping[str, Any] | None) -> EndedJobUsage:
    if document is None:
        return EndedJobUsage(job=job)
    return EndedJobUsage(
        job=with_exit_code(job, document),
        executions=document["executions"],
        shots=document["shots"],
        qpu_seconds=document["qpu_seconds"],
    )


def with_exit_codes(center: CenterConnection, jobs: Sequence[JobInfo]) -> list[JobInfo]:
    """Add exit codes from the platform where Slurm's accounting has none."""
    if not any(job.is_final and job.exit_code is None and job.signal is None for job in jobs):
        return list(jobs)
    counted = _counted(center)
    return [with_exit_code(job, counted.get((job.job_id, job.marks.key)) or {}) for job in jobs]


def with_exit_code(job: JobInfo, document: Mapping[str, Any]) -> JobInfo:
    """Add the platform's exit code to a job where Slurm's accounting has none (22.05, 23.02).

    `document` is the job manager's record of this job.
    """
    code = document.get("exit_code")
    if job.exit_code is not None or job.signal is not None or not job.is_final or not code:
        return job
    return msgspec.structs.replace(job, status=256 * code)


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """Usage on one platform by user, account and backend, or by some of these."""

    platform: str = ""
    user: str = ""
    account: str = ""
    backend: str = ""
    jobs: int = 0
    executions: int = 0
    shots: int = 0
    qpu_seconds: float = 0.0


GROUPS = ("platform", "user", "account", "backend")


def usage(rows: Iterable[Mapping[str, Any]], by: Sequence[str] = GROUPS[1:]) -> list[Usage]:
    """Sum usage rows by some of platform, user, account and backend; largest use first.

    The user is the submitter on C1, from the jobs' origin.
    """
    sums: defaultdict[tuple[str, ...], Counter[str]] = defaultdict(Counter)
    for row in rows:
        known = {**row, "user": user_of(row["origin"])}
        total = sums[tuple(str(known[name]) for name in by)]
        for name in ("jobs", "executions", "shots", "qpu_seconds"):
            total[name] += row[name]
    found = [
        msgspec.convert({**dict(zip(by, names, strict=True)), **total}, Usage)
        for names, total in sums.items()
    ]
    return sorted(
        found, key=lambda one: (-one.qpu_seconds, -one.shots, *(getattr(one, name) for name in GROUPS))
    )


class Backend(msgspec.Struct, frozen=True, kw_only=True):
    """A backend as a center sees it: state, queue and reservations.

    `waiting` and `running` count jobs, `in_line` the waiting ones that wait only for their turn; `queued` and
    `executing` count circuits of the running ones. `allowed`: whether the center lets this user use it.
    """

    name: str
    partition: str
    state: str
    reason: str = ""
    since: float | None = None
    qubits: int | None = None
    max_shots: int | None = None
    default_shots: int | None = None
    partition_state: str = ""
    waiting: int = 0
    in_line: int = 0
    running: int = 0
    queued: int = 0
    executing: int = 0
    allowed: bool = True
    reserved: list[dict[str, Any]] = []


def backends(center: CenterConnection) -> list[Backend]:
    """C2's backends, with the number of jobs in their partitions.

    The job manager counts the jobs of all centers. If it cannot, the jobs that slurmrestd shows are counted.
    """
    documents = center.job_manager.backends()
    states = center.slurm.partitions()
    try:
        found = center.job_manager.loads()
    except (UnreachableError, UnknownJobError):  # it has no view of the queue, or is an older version
        found = partition_loads(center.slurm.jobs())
    by_partition = {load.partition: load for load in found}
    return [_backend(document, states, by_partition) for document in documents]


def _backend(
    document: Mapping[str, Any], states: Mapping[str, str], loads: Mapping[str, PartitionLoad]
) -> Backend:
    from qslurm.protocol.job_changes import PartitionLoad

    partition = f"p_{document['name']}"
    load = loads.get(partition) or PartitionLoad(partition=partition)
    known = {name: document[name] for name in Backend.__struct_fields__ if document.get(name) is not None}
    return Backend(
        **known,
        partition=partition,
        partition_state=states.get(partition, ""),
        waiting=load.waiting,
        in_line=load.in_line,
        running=load.running,
    )
