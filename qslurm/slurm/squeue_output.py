"""Parses squeue's listing of C2's jobs, in two parts: Slurm's fields, and fields that users wrote.

A job's name and comment may contain anything, even line breaks. So these columns have a fixed number of bytes; all
others have a delimiter.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from qslurm.errors import QslurmError
from qslurm.slurm.job_info import JobInfo

SLURM_COLUMNS = (
    *("JobID", "State", "Reason", "Partition", "UserName", "Account", "QOS", "SubmitTime", "StartTime", "EndTime"),
    *("exit_code", "RestartCnt", "TimeLimit", "ArrayJobID", "ArrayTaskID", "PriorityLong", "NodeList",
     "EligibleTime"),
)  # fmt: skip
USER_COLUMNS = (("Name", 200), ("Comment", 1024), ("admin_comment", 1024))
"""Columns of user-written fields, and their bytes."""

SLURM_FORMAT = ",".join(f"{name}:|" for name in SLURM_COLUMNS)
USER_FORMAT = ",".join(["JobID:|", *(f"{name}:{size}" for name, size in USER_COLUMNS)])

_USER_LINE = re.compile(
    rb"(\d+)\|" + b"".join(b"(.{%d})" % size for _, size in USER_COLUMNS) + rb"\n", re.DOTALL
)
_NOT_SET = (
    "",
    "N/A",
    "n/a",
    "(null)",
    "None",
    "Unknown",
    "UNLIMITED",
    "INVALID",
    "NOT_SET",
    "Partition_Limit",
)


@dataclass(frozen=True)
class UserFields:
    """The user-written fields of a job."""

    name: str = ""
    comment: str = ""
    admin_comment: str = ""


NO_USER_FIELDS = UserFields()


def lines_of(listing: bytes) -> dict[int, bytes]:
    """The lines of a listing by job id; QslurmError if invalid."""
    try:
        return {int(line[: line.index(b"|")]): line for line in listing.splitlines()}
    except ValueError as error:
        raise QslurmError(f"Unexpected output of squeue: {listing[:200]!r}.") from error


def user_fields_of(listing: bytes) -> dict[int, UserFields]:
    """User-written fields by job id; QslurmError if columns are misplaced."""
    found, position = {}, 0
    while position < len(listing):
        match = _USER_LINE.match(listing, position)
        if match is None:
            raise QslurmError(f"Unexpected output of squeue: {listing[position : position + 200]!r}.")
        job_id, *cells = match.groups()
        found[int(job_id)] = UserFields(*(_text(cell) for cell in cells))
        position = match.end()
    return found


def job_of(line: bytes, written: UserFields = NO_USER_FIELDS) -> JobInfo:
    """A job from its line and its user-written fields; QslurmError if invalid."""
    cells = line.decode(errors="replace").strip().removesuffix("|").split("|")
    try:
        (job_id, state, reason, partition, user, account, qos, submit, start, end, status, restarts, limit,
         array_job, array_tasks, priority, nodes, eligible) = cells  # fmt: skip
        return JobInfo(
            job_id=int(job_id),
            state=state,
            reason=_if_set(reason),
            partition=partition,
            user=user,
            account=_if_set(account),
            qos=_if_set(qos),
            submit=_number(submit),
            start=_number(start),
            end=_number(end),
            status=_wait_status(status),
            restart_count=_number(restarts),
            limit_minutes=_minutes(limit),
            array_job=_number(array_job) if _if_set(array_tasks) else 0,
            array_index=_if_set(array_tasks),
            priority=_number(priority),
            nodes=_if_set(nodes),
            name=written.name,
            comment=written.comment,
            admin_comment=written.admin_comment,
            eligible=_number(eligible),
        )
    except ValueError as error:
        raise QslurmError(f"Unexpected output of squeue: {line[:200]!r}.") from error


def jobs_of(listing: bytes) -> dict[int, JobInfo]:
    """Jobs by id, without user-written fields; QslurmError if the output is invalid."""
    return {job_id: job_of(line) for job_id, line in lines_of(listing).items()}


def _text(cell: bytes) -> str:
    text = cell.rstrip(b" ").decode(errors="ignore")  # the last character may be cut
    return "" if text == "(null)" else text


def _if_set(text: str) -> str:
    return "" if text in _NOT_SET else text


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() else 0


def _wait_status(text: str) -> int:
    """22.05 prints the wait status, 24.11 and 26.05 print "code:signal"."""
    code, colon, signal = text.partition(":")
    return 256 * _number(code) + _number(signal) if colon else _number(code)


def _minutes(text: str) -> int:
    """Slurm's [days-]hours:minutes:seconds, or minutes:seconds."""
    days, dash, clock = text.rpartition("-")
    parts = clock.split(":")
    if not all(part.isascii() and part.isdigit() for part in parts) or not 1 <= len(parts) <= 3:
        return 0
    hours, minutes, seconds = ["0"] * (3 - len(parts)) + parts
    return (_number(days) * 24 if dash else 0) * 60 + int(hours) * 60 + int(minutes) + (int(seconds) > 0)
