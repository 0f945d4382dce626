"""What a user does with jobs: submit, wait, look, fetch. One function each, on one connection."""

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
    """InvalidInputError for a dependency on a job that C2 does not know: Slurm would start the job without it."""
    for dependency in dict.fromkeys(dependencies):
        for job_id in sorted({int(word) for word in re.findall(r"(?<=:)\d+", dependency)}):
            try:
                center.slurm.tasks(job_id)
            except UnknownJobError as error:
                raise InvalidInputError(
                    f"The dependency {dependency!r}: C2 knows no job {job_id}.",
                    hint="Its ids are C2's; `qslurm queue` lists them.",
                ) from error


def dependency_of(payload: Mapping[str, Any]) -> str:
    """What a payload's job waits for, as Slurm reads it; "" for nothing."""
    return str(payload["job"].get("dependency") or "")


def send(center: Center, payload: dict[str, Any]) -> Submitted:
    """Send a payload to C2. When no answer comes, look whether C2 has the job before saying that nobody knows."""
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
            why = f" Looking for it fails, too: {unseen.message}"
        if found is None:
            raise UncertainError(
                f"{error.message} Nobody can say yet whether C2 has the job.{why}",
                hint=how_to_look(payload),
            ) from error
        return found
    except RefusedError as error:
        raise _with_backends(center, error) from error


def how_to_look(payload: Mapping[str, Any]) -> str:
    """How its user finds out whether C2 has a job of which nobody knows."""
    from qslurm.payload.comment import Comment

    key = Comment.parse(str(payload.get("job", {}).get("comment", ""))).key
    key_option = f" --key {key}" if key else ""
    return f"Look with `qslurm queue{key_option}` before you submit again."


def _look_up(center: Center, key: str) -> Submitted | None:
    from qslurm.slurm.rest import Submitted

    job = center.slurm.find_by_key(key)
    if job is None or not job.job_id:  # the center's agent has it, and C2 has not taken it yet
        return None
    number = job.array_or_job_id  # a task that has begun has an id of its own
    return Submitted(number, ["C2's answer was lost on the way; the job was found by its key."], "")


def with_key(center: Center, key: str) -> int:
    """The id of the job that was submitted under a key; UnknownJobError, or NotReadyError if it has none yet."""
    job = center.slurm.find_by_key(key)
    if job is None:
        raise UnknownJobError(f"C2 knows no job that was submitted as {key}.")
    if not job.job_id:
        raise NotReadyError(f"The job that was submitted as {key} is not on C2 yet.", hint="Try again later.")
    return job.array_or_job_id


INVALID_PARTITION = 2000
"""Slurm's error number for a partition it does not have (slurm_errno.h)."""


def _with_backends(center: Center, error: RefusedError) -> RefusedError:
    """A refusal for an unknown partition gets the backends that exist as its hint, if anybody can name them."""
    if error.slurm_error != INVALID_PARTITION or not center.has_platform:
        return error
    try:
        names = sorted(str(one["name"]) for one in center.results.backends() if "name" in one)
    except QslurmError as unsaid:
        return RefusedError(error.message, hint=f"Which backends there are can't be said: {unsaid.message}")
    return RefusedError(error.message, hint=f"C2's backends are {', '.join(names)}.") if names else error


MORE: Mapping[str, str] = {
    ReasonCode.USED_UP: "Ask for more with --qpu-seconds, or fewer shots.",
    ReasonCode.IDLE_LIMIT: "Ask for more with --idle-limit.",
}
"""What to do about a limit of the platform's."""


def outcome_error(center: Center, job: JobInfo) -> QslurmError | None:
    """The error an ended job stands for, with the platform's reason if it has one; None for a completed job."""
    how, name = job.outcome, f"{center.prefix}{job.job_id}"
    if how == "completed":
        return None
    facts: Mapping[str, Any] = {}
    unsaid = ""
    try:
        facts = platform_facts(center, job.job_id)
    except QslurmError as error:
        unsaid = f"What C2's platform knows of it can't be said: {error.message}"
    code, reason = _why(job, facts)
    if how == "failed" and facts.get("state") == "timed_out":  # to Slurm its step has failed
        how = "ended"
    failure = (
        _failed(name, f" (exit code {job.exit_code})")
        if how == "failed" and not reason and job.exit_code
        else _error(name, how, code, reason)
    )
    failure.hint = " ".join(part for part in (failure.hint, unsaid) if part)
    return failure


def result_error(center: Center, document: Mapping[str, Any]) -> QslurmError | None:
    """The error that a document of results stands for whose job has ended without any; None for one that finished.

    It is the one with which waiting for the job ends.
    """
    from qslurm.slurm.states import explain, is_reason

    how, told = str(document.get("state", "finished")), str(document.get("reason") or "")
    code = str(document.get("reason_code") or "")
    if how not in {"failed", "cancelled", "timed_out"}:
        return None
    if told and is_reason(told):
        code, told = told, explain(told)
    elif how == "timed_out" and told:  # the platform's own limit, not Slurm's
        how = "ended"
    return _error(f"{center.prefix}{document.get('job_id')}", how, code, told)


def _error(name: str, how: str, code: str, reason: str) -> QslurmError:
    said = f": {reason.rstrip('.')}" if reason else ""
    if how == "cancelled":
        return JobCancelledError(f"Job {name} was cancelled{said}.")
    if how == "timed_out":
        own = "" if code == "TimeLimit" else said
        return TimedOutError(
            f"Job {name} ran into its time limit{own}.",
            hint="Ask for more with --time, or fewer shots.",
        )
    if how == "ended":
        return TimedOutError(f"Job {name} was ended{said}.", hint=MORE.get(code, ""))
    return _failed(name, said)


def _failed(name: str, said: str) -> JobFailedError:
    return JobFailedError(f"Job {name} failed{said}.", hint=f"`qslurm logs {name}` prints what it wrote.")


def _why(job: JobInfo, facts: Mapping[str, Any]) -> tuple[str, str]:
    """Why a job ended as it did: a name to decide by (Slurm's, or the platform's ReasonCode), and the words."""
    from qslurm.slurm.states import explain, is_reason

    told = str(facts.get("reason") or "")
    if told and not is_reason(told):
        return str(facts.get("reason_code") or ""), told
    return job.reason or told, job.why or explain(told)


def platform_facts(center: Center, job_id: int) -> dict[str, Any]:
    """What the job manager says of a job: nothing if there is none, or it does not know the job (yet).

    UnreachableError if it is away, and what else keeps it from saying (a token that it refuses).
    """
    if not center.has_platform:
        return {}
    try:
        return center.results.job(job_id)
    except UnknownJobError:
        return {}


def look(center: Center, job_id: int, key: str = "") -> JobInfo:
    """A job as it is now. One that slurmctld has forgotten is judged by what the platform knows of it."""
    return judge(center, center.slurm.job(job_id), key)


def judge(center: Center, job: JobInfo, key: str = "") -> JobInfo:
    """A job as it is; one that slurmctld has forgotten is judged by what the platform knows of it.

    So is one that was cancelled: maybe only because slurmctld had forgotten that it was over.
    `key` is its submission's, if who asks knows it: slurmdbd's record of a job that waits has no comment (22.05).
    """
    from qslurm.c1.queries.forgotten_jobs import as_it_ended, is_forgotten, judged

    if is_forgotten(job):
        return judged(job, _what_ran(center, job, key))
    if job.state == "CANCELLED" and job.array_job_id is None and job.marks.key:
        return as_it_ended(job, _what_ran(center, job, key))
    return job


def _what_ran(center: Center, job: JobInfo, key: str) -> Mapping[str, Any] | None:
    """What the platform has run of a job: {} for nothing, None if it is away. The id may be another's by now."""
    from qslurm.c1.queries.forgotten_jobs import fate, standing

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
