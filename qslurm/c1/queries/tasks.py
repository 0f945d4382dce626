"""Looks up and waits for jobs by user-facing id: 12 for a job or an array, 12_3 for an array task."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from qslurm.c1.queries import job_state as one
from qslurm.c1.queries.job_ids import JobRef
from qslurm.errors import (
    InvalidInputError,
    JobCancelledError,
    JobFailedError,
    QslurmError,
    RefusedError,
    TimedOutError,
    UnknownJobError,
    UnreachableError,
)

if TYPE_CHECKING:
    from qslurm.c1.connection.center_connection import CenterConnection
    from qslurm.c1.connection.polling import Poll
    from qslurm.slurm.job_info import JobInfo


@dataclass(frozen=True)
class Tasks:
    """The tasks of an array, or a single job; pending tasks may share a record."""

    ref: JobRef
    jobs: tuple[JobInfo, ...]

    @property
    def is_array(self) -> bool:
        """Whether this is an array."""
        return self.ref.task is None and any(
            job.array_job_id == self.ref.job_id and job.array_job_id is not None for job in self.jobs
        )

    @property
    def is_final(self) -> bool:
        """Whether all tasks have ended."""
        return all(job.is_final for job in self.jobs)

    @property
    def word(self) -> str:
        """The state, or the number of tasks in each state."""
        if not self.is_array:
            return self.jobs[0].word
        counts: Counter[str] = Counter()
        for job in self.jobs:
            counts[job.word] += _count([job])
        return ", ".join(f"{number} {word}" for word, number in counts.items())

    @property
    def why(self) -> str:
        """The reason of the first task that has not ended."""
        if not self.is_array:
            return self.jobs[0].why
        return next((job.why for job in self.jobs if not job.is_final and job.why), "")


def look(
    center: CenterConnection,
    ref: JobRef,
    *,
    forgotten: bool = True,
    reported: Sequence[JobInfo] | None = None,
) -> Tasks:
    """The current state of a job or of an array's tasks; UnknownJobError for an unknown task.

    slurmctld may purge ended tasks while others run; with `forgotten` they are read from the accounting. `reported` is
    Slurm's current record of the job or its tasks, if already known.
    """
    known = center.slurm.tasks(ref.job_id) if reported is None else list(reported)
    if ref.task is None:
        is_array = any(job.array_job_id is not None for job in known)
        if not is_array:
            return Tasks(ref, (one.judge(center, _latest(known)),))
    if forgotten:
        known += _accounted(center, ref.job_id, known)
    tasks = [one.judge(center, job) for job in _one_of_each(known)]
    if ref.task is not None:
        tasks = [task_of(tasks, ref)]
    tasks.sort(key=lambda job: (job.array_task_id is None, job.array_task_id or 0))
    return Tasks(ref, tuple(tasks))


def _accounted(center: CenterConnection, job_id: int, known: list[JobInfo]) -> list[JobInfo]:
    """The tasks that only the accounting has. UnreachableError if it is down and all known tasks have ended: a purged
    task may have failed.
    """
    try:
        accounted = center.slurm.accounted_tasks(job_id)
    except UnknownJobError:
        return []  # it gets a new job a moment later
    except UnreachableError:
        if all(job.is_final for job in known):
            raise
        return []
    shown = {job.shown_id for job in known}
    return [job for job in accounted if job.array_task_id is not None and job.shown_id not in shown]


def _one_of_each(jobs: list[JobInfo]) -> list[JobInfo]:
    found: dict[str, JobInfo] = {}
    for job in sorted(jobs, key=lambda job: (job.submit_time or 0, job.start_time or 0)):
        found[job.shown_id] = job
    return list(found.values())


def _latest(jobs: list[JobInfo]) -> JobInfo:
    return max(jobs, key=lambda job: (job.submit_time or 0, job.start_time or 0))


def task_of(jobs: Sequence[JobInfo], ref: JobRef) -> JobInfo:
    """One task of an array; UnknownJobError if it is missing."""
    from qslurm.payload.array import parse_array

    for job in jobs:
        if job.array_task_id == ref.task:
            return job
    for job in jobs:
        try:
            waits = job.array_tasks and ref.task in parse_array(job.array_tasks).indices
        except InvalidInputError:  # Slurm abbreviates long lists: "1-9,..."
            waits = True
        if waits:
            return msgspec.structs.replace(job, task=ref.task)
    raise UnknownJobError(
        f"Job {ref.job_id} has no task {ref.task}.",
        hint=f"`qslurm show {ref.beside(str(ref.job_id))}` lists its tasks; "
        "Slurm keeps no record of tasks that were cancelled before they started.",
    )


def wait(
    center: CenterConnection, ref: JobRef, *, on_poll: Callable[[Poll], None], timeout_s: float | None = None
) -> Tasks:
    """Wait until a job, or every task of an array, has ended; see `wait_until_final`."""
    from qslurm.c1.connection.polling import wait_until_final

    unfinished: JobInfo | None = None
    reported: list[JobInfo] | None = None

    def ask() -> Tasks:
        nonlocal unfinished
        unfinished = None
        seen = look_lightly(center, ref, reported)
        unfinished = next((job for job in seen.jobs if not job.is_final), None)
        return seen

    def pause(seconds: float) -> None:
        nonlocal reported
        reported = center.wait_for_change(seconds, unfinished)

    try:
        return wait_until_final(
            ask,
            on_poll=on_poll,
            timeout_s=timeout_s,
            what=f"Job {ref}",
            sleep=pause,
            delay=center.delay,
        )
    except TimedOutError as error:
        raise TimedOutError(error.message, hint=f"`qslurm wait {ref}` waits again.") from error


def look_lightly(center: CenterConnection, ref: JobRef, reported: Sequence[JobInfo] | None) -> Tasks:
    """As `look`, but query the accounting only after the end: it is slow with many jobs."""
    tasks = look(center, ref, forgotten=ref.task is not None, reported=reported)
    return look(center, ref, reported=reported) if tasks.is_final and tasks.is_array else tasks


_WORST: tuple[tuple[str, type[QslurmError], str], ...] = (
    ("failed", JobFailedError, "failed"),
    ("timed_out", TimedOutError, "timed out"),
    ("cancelled", JobCancelledError, "were cancelled"),
)


def outcome_error(center: CenterConnection, tasks: Tasks) -> QslurmError | None:
    """The worst error of ended tasks; None if all completed."""
    if not tasks.is_array:
        return one.outcome_error(center, tasks.jobs[0])
    for outcome, error, words in _WORST:
        if badly := [job for job in tasks.jobs if job.outcome == outcome]:
            ids = [tasks.ref.beside(job.shown_id) for job in badly]
            named = ", ".join(ids[:5]) + (" …" if len(ids) > 5 else "")
            shown = tasks.ref if badly[0].array_tasks else ids[0]
            return error(
                f"{_count(badly)} of {_count(tasks.jobs)} tasks of job {tasks.ref} {words}: {named}.",
                hint=f"See `qslurm show {shown}`.",
            )
    return None


def _count(jobs: Iterable[JobInfo]) -> int:
    return sum(len(indices_of(job)) or 1 for job in jobs)


def indices_of(job: JobInfo) -> tuple[int, ...]:
    """The tasks in a record: tasks that never started share one. (0,) if the job is not an array; empty if Slurm
    abbreviates the list ("1-9,...").
    """
    from qslurm.payload.array import parse_array

    if job.array_task_id is not None:
        return (job.array_task_id,)
    try:
        return parse_array(job.array_tasks).indices if job.array_tasks else (0,)
    except InvalidInputError:
        return ()


def separate_records(jobs: Iterable[JobInfo]) -> list[JobInfo]:
    """An array's tasks, each with its own record, as far as Slurm lists them."""
    found: list[JobInfo] = []
    for job in jobs:
        indices = indices_of(job) if job.array_task_id is None and job.array_tasks else ()
        found += [msgspec.structs.replace(job, task=index) for index in indices] or [job]
    return found


def parameters_of(job: JobInfo) -> dict[str, str]:
    """A task's parameters from a sweep; empty without one."""
    from qslurm.payload.sweep import read_sweep

    sweep = job.marks.sweep
    if not sweep or job.array_task_id is None:
        return {}
    try:
        return read_sweep(sweep).at(job.array_task_id)
    except InvalidInputError:  # a comment that was edited by hand
        return {}


def set_hold(center: CenterConnection, job_id: int, *, held: bool) -> list[str]:
    """Hold or release a pending job; returns C2's warnings.

    slurmrestd 22.05 reports each update of an array as failed, without an error number: the tasks' state counts.
    """
    try:
        return center.slurm.update(job_id, {"hold": held})
    except RefusedError:
        waiting = [job for job in center.slurm.tasks(job_id) if job.state == "PENDING"]
        are_so = all((job.reason == "JobHeldUser") == held for job in waiting)
        if not are_so or not any(job.array_job_id for job in waiting):
            raise
        return []
