"""Operations on jobs over one connection: submit, wait, look up, fetch."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from qslurm.errors import (
    InvalidInputError,
    JobCancelledError,
    JobFailedError,
    KeptError,
    NotReadyError,
    QslurmError,
    RefusedError,
    TimedOutError,
    UncertainError,
    UnknownJobError,
    UnreachableError,
)
from qslurm.reason_codes import ReasonCode

if TYPE_CHECKING:
    from qslurm.c1.connection.center import Center
    from qslurm.slurm.job_info import JobInfo
    from qslurm.slurm.rest import Submitted


def refuse_unknown_dependencies(center: Center, dependencies: Iterable[str]) -> None:
    """InvalidInputError for a dependency on an unknown job: Slurm would start the job without it."""
    for dependency in dict.fromkeys(dependencies):
        for job_id in sorted({int(word) for word in re.findall(r"(?<=:)\d+", dependency)}):
            try:
                center.slurm.tasks(job_id)
            except UnknownJobError as error:
                raise InvalidInputError(
                    f"Invalid dependency {dependency!r}: C2 has no job {job_id}.",
                    hint="Use job ids of C2, as listed by `qslurm queue`.",
                ) from error


def dependency_of(payload: Mapping[str, Any]) -> str:
    """A payload's dependency, in Slurm's syntax; "" for none."""
    return str(payload["job"].get("dependency") or "")


def send(center: Center, payload: dict[str, Any]) -> Submitted:
    """Submit a payload to C2. If no response arrives, look the job up by its key before raising UncertainError."""
    from qslurm.payload.comment import Comment

    try:
        return center.slurm.submit(payload)
    except KeptError:
        raise
    except UncertainError as error:
        key = Comment.parse(str(payload.get("job", {}).get("comment", ""))).key
        found, why = None, ""
        try:
            found = _look_up(center, key) if key else None
        except UnreachableError:  # the same silence
            pass
        except QslurmError as unseen:
            why = f" Looking it up failed, too: {unseen.message}"
        if found is None:
            raise UncertainError(
                f"{error.message} It is unknown whether C2 has the job.{why}",
                hint=how_to_look(payload),
            ) from error
        return found
    except RefusedError as error:
        raise _with_backends(center, error) from error


def how_to_look(payload: Mapping[str, Any]) -> str:
    """The hint for an uncertain submission."""
    from qslurm.payload.comment import Comment

    key = Comment.parse(str(payload.get("job", {}).get("comment", ""))).key
    key_option = f" --key {key}" if key else ""
    return f"Check `qslurm queue{key_option}` before you submit it again."


def _look_up(center: Center, key: str) -> Submitted | None:
    from qslurm.slurm.rest import Submitted

    job = center.slurm.find_by_key(key)
    if job is None or not job.job_id:  # the center's agent has it, and C2 has not taken it yet
        return None
    number = job.array_or_job_id  # a task that has begun has an id of its own
    return Submitted(number, ["C2's response was lost; found the job by its key."], "")


def with_key(center: Center, key: str) -> int:
    """The job id of a submission key; UnknownJobError, or NotReadyError if it has none yet."""
    job = center.slurm.find_by_key(key)
    if job is None:
        raise UnknownJobError(f"Unknown submission key {key}.")
    if not job.job_id:
        raise NotReadyError(f"The submission {key} has no job on C2 yet.", hint="Try again later.")
    return job.array_or_job_id


INVALID_PARTITION = 2000
"""Slurm's error number for an unknown partition (slurm_errno.h)."""


def _with_backends(center: Center, error: RefusedError) -> RefusedError:
    """Add the existing backends as a hint to a refusal for an unknown partition."""
    if error.slurm_error != INVALID_PARTITION or not center.has_platform:
        return error
    try:
        names = sorted(str(one["name"]) for one in center.results.backends() if "name" in one)
    except QslurmError as unsaid:
        return RefusedError(error.message, hint=f"Cannot list C2's backends: {unsaid.message}")
    return RefusedError(error.message, hint=f"C2's backends: {', '.join(names)}.") if names else error


MORE: Mapping[str, str] = {
    ReasonCode.USED_UP: "Use a larger --qpu-seconds, or fewer shots.",
    ReasonCode.IDLE_LIMIT: "Use a larger --idle-limit.",
}
"""A hint for a job that reached a limit of the platform."""


def outcome_error(center: Center, job: JobInfo) -> QslurmError | None:
    """The error of an ended job, with the platform's reason if there is one; None if it completed."""
    how, name = job.outcome, f"{center.prefix}{job.job_id}"
    if how == "completed":
        return None
    facts: Mapping[str, Any] = {}
    unread = ""
    try:
        facts = platform_facts(center, job.job_id)
    except QslurmError as error:
        unread = f"Cannot read the job's record from C2's job manager: {error.message}"
    code, reason = _why(job, facts)
    if how == "failed" and facts.get("state") == "timed_out":  # to Slurm its step has failed
        how = "ended"
    failure = (
        _failed(name, f" (exit code {job.exit_code})")
        if how == "failed" and not reason and job.exit_code
        else _error(name, how, code, reason)
    )
    failure.hint = " ".join(part for part in (failure.hint, unread) if part)
    return failure


def result_error(center: Center, document: Mapping[str, Any]) -> QslurmError | None:
    """The error in a results document of a job without results; None if it finished.

    It is the one with which waiting for the job ends.
    """
    from qslurm.slurm.states import explain, is_reason

    how, reason = str(document.get("state", "finished")), str(document.get("reason") or "")
    code = str(document.get("reason_code") or "")
    if how not in {"failed", "cancelled", "timed_out"}:
        return None
    if reason and is_reason(reason):
        code, reason = reason, explain(reason)
    elif how == "timed_out" and reason:  # the platform's own limit, not Slurm's
        how = "ended"
    return _error(f"{center.prefix}{document.get('job_id')}", how, code, reason)


def _error(name: str, how: str, code: str, reason: str) -> QslurmError:
    because = f": {reason.rstrip('.')}" if reason else ""
    if how == "cancelled":
        return JobCancelledError(f"Job {name} was cancelled{because}.")
    if how == "timed_out":
        own = "" if code == "TimeLimit" else because
        return TimedOutError(
            f"Job {name} reached its time limit{own}.",
            hint="Use a longer --time, or fewer shots.",
        )
    if how == "ended":
        return TimedOutError(f"Job {name} was terminated{because}.", hint=MORE.get(code, ""))
    return _failed(name, because)


def _failed(name: str, because: str) -> JobFailedError:
    return JobFailedError(f"Job {name} failed{because}.", hint=f"See `qslurm logs {name}`.")


def _why(job: JobInfo, facts: Mapping[str, Any]) -> tuple[str, str]:
    """A job's end reason: a code (Slurm's, or a ReasonCode of the platform), and a sentence."""
    from qslurm.slurm.states import explain, is_reason

    told = str(facts.get("reason") or "")
    if told and not is_reason(told):
        return str(facts.get("reason_code") or ""), told
    return job.reason or told, job.why or explain(told)


def platform_facts(center: Center, job_id: int) -> dict[str, Any]:
    """The job manager's record of a job; {} if it has none yet.

    UnreachableError if it is away, and what else keeps it from saying (a token that it refuses).
    """
    if not center.has_platform:
        return {}
    try:
        return center.results.job(job_id)
    except UnknownJobError:
        return {}


def look(center: Center, job_id: int, key: str = "") -> JobInfo:
    """A job's current state. A job that slurmctld lost is judged by the platform's record."""
    return judge(center, center.slurm.job(job_id), key)


def judge(center: Center, job: JobInfo, key: str = "") -> JobInfo:
    """A job's current state. A job that slurmctld lost is judged by the platform's record.

    So is one that was cancelled: maybe only because slurmctld had forgotten that it was over.
    `key` is its submission's, if who asks knows it: slurmdbd's record of a job that waits has no comment (22.05).
    """
    from qslurm.c1.queries.lost_jobs import as_it_ended, is_forgotten, judged

    if is_forgotten(job):
        return judged(job, _what_ran(center, job, key))
    if job.state == "CANCELLED" and job.array_job_id is None and job.marks.key:
        return as_it_ended(job, _what_ran(center, job, key))
    return job


def _what_ran(center: Center, job: JobInfo, key: str) -> Mapping[str, Any] | None:
    """The platform's record of a job: {} if none, None if unreachable. The id may be reused by now."""
    from qslurm.c1.queries.lost_jobs import fate, standing

    key = job.marks.key or key
    if not center.has_platform:
        return None
    try:
        if not key:
            return platform_facts(center, job.job_id)
        starts = center.results.starts(key if job.array_task_id is None else f"{key}#{job.array_task_id}")
    except UnreachableError:
        return None  # it may answer at the next look; until then the job is what Slurm calls it
    return standing(starts) if fate(starts) != "never_ran" else {}
