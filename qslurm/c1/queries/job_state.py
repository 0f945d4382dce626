"""The state of one job, and the error that its outcome stands for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from qslurm.errors import (
    JobCancelledError,
    JobFailedError,
    NotReadyError,
    QslurmError,
    TimedOutError,
    UnknownJobError,
    UnreachableError,
)
from qslurm.reason_codes import ReasonCode

if TYPE_CHECKING:
    from qslurm.c1.connection.center_connection import CenterConnection
    from qslurm.slurm.job_info import JobInfo


def with_key(center: CenterConnection, key: str) -> int:
    """The job id of a submission key; UnknownJobError, or NotReadyError if it has none yet."""
    job = center.slurm.find_by_key(key)
    if job is None:
        raise UnknownJobError(f"Unknown submission key {key}.")
    if not job.job_id:
        raise NotReadyError(f"The submission {key} has no job on C2 yet.", hint="Try again later.")
    return job.array_or_job_id


LIMIT_HINTS: Mapping[str, str] = {
    ReasonCode.USED_UP: "Use a larger --qpu-seconds, or fewer shots.",
    ReasonCode.IDLE_LIMIT: "Use a larger --idle-limit.",
}
"""Hints for jobs that reached a limit of the platform, by reason code."""


def outcome_error(center: CenterConnection, job: JobInfo) -> QslurmError | None:
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
    if how == "failed" and facts.get("state") == "timed_out":  # Slurm reports a failed step
        how = "ended"
    failure = (
        _failed(name, f" (exit code {job.exit_code})")
        if how == "failed" and not reason and job.exit_code
        else _error(name, how, code, reason)
    )
    failure.hint = " ".join(part for part in (failure.hint, unread) if part)
    return failure


def result_error(center: CenterConnection, document: Mapping[str, Any]) -> QslurmError | None:
    """The error in the results document of a job that did not complete; None if it did.

    The same error as from waiting for the job.
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
        return TimedOutError(f"Job {name} was terminated{because}.", hint=LIMIT_HINTS.get(code, ""))
    return _failed(name, because)


def _failed(name: str, because: str) -> JobFailedError:
    return JobFailedError(f"Job {name} failed{because}.", hint=f"See `qslurm logs {name}`.")


def _why(job: JobInfo, facts: Mapping[str, Any]) -> tuple[str, str]:
    """Why a job ended: a code (Slurm's, or a ReasonCode of the platform), and a sentence."""
    from qslurm.slurm.states import explain, is_reason

    reason = str(facts.get("reason") or "")
    if reason and not is_reason(reason):
        return str(facts.get("reason_code") or ""), reason
    return job.reason or reason, job.why or explain(reason)


def platform_facts(center: CenterConnection, job_id: int) -> dict[str, Any]:
    """The job manager's record of a job; {} if it has none yet.

    UnreachableError if it does not answer; TokenError if it refuses the token.
    """
    if not center.has_job_manager:
        return {}
    try:
        return center.job_manager.job(job_id)
    except UnknownJobError:
        return {}


def look(center: CenterConnection, job_id: int, key: str = "") -> JobInfo:
    """A job's current state; see `judge`."""
    return judge(center, center.slurm.job(job_id), key)


def judge(center: CenterConnection, job: JobInfo, key: str = "") -> JobInfo:
    """Correct a job's state by the platform's record, if slurmctld lost the job.

    Also if it was cancelled: slurmctld may have lost that it had ended; and if a script completed at once: it may have
    been cancelled while it was launched. `key` is its submission key, if known:
    slurmdbd's record of a pending job has no comment (22.05).
    """
    from qslurm.c1.queries.lost_jobs import (
        as_cancelled,
        as_it_ended,
        is_forgotten,
        judged,
        may_be_cancelled,
    )

    if is_forgotten(job):
        return judged(job, _what_ran(center, job, key))
    if job.state == "CANCELLED" and job.array_job_id is None and job.marks.key:
        return as_it_ended(job, _what_ran(center, job, key))
    if may_be_cancelled(job):
        return as_cancelled(job, _what_ran(center, job, key))
    return job


def _what_ran(center: CenterConnection, job: JobInfo, key: str) -> Mapping[str, Any] | None:
    """The platform's record of a job: {} if none, None if unreachable. The id may be reused by now."""
    from qslurm.c1.queries.lost_jobs import fate, standing

    key = job.marks.key or key
    if not center.has_job_manager:
        return None
    try:
        if not key:
            return platform_facts(center, job.job_id)
        starts = center.job_manager.starts(key if job.array_task_id is None else f"{key}#{job.array_task_id}")
    except UnreachableError:
        return None  # until it answers, Slurm's state counts
    return standing(starts) if fate(starts) != "never_ran" else {}
