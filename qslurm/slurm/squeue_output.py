"""Parses squeue's listing of C2's jobs, in two parts: Slurm's fields, and fields that users wrote.

A user can write anything into a job's name and comment, line ends included. So these come in columns of a fixed
number of bytes, which nothing in them can leave; all other columns have a delimiter.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from qslurm.errors import QslurmError
from qslurm.slurm.job_info import JobInfo

FACTS = (
    *("JobID", "State", "Reason", "Partition", "UserName", "Account", "QOS", "SubmitTime", "StartTime", "EndTime"),
    *("exit_code", "RestartCnt", "TimeLimit", "ArrayJobID", "ArrayTaskID", "PriorityLong", "NodeList",
     "EligibleTime"),
)  # fmt: skip
WORDS = (("Name", 200), ("Comment", 1024), ("admin_comment", 1024))
"""Columns of user-written fields, and their bytes."""

FACTS_FORMAT = ",".join(f"{name}:|" for name in FACTS)
WORDS_FORMAT = ",".join(["JobID:|", *(f"{name}:{size}" for name, size in WORDS)])

_WORDS = re.compile(rb"(\d+)\|" + b"".join(b"(.{%d})" % size for _, size in WORDS) + rb"\n", re.DOTALL)
_NOTHING = (
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
class Words:
    """The user-written fields of a job."""

    name: str = ""
    comment: str = ""
    admin_comment: str = ""


NOTHING_WRITTEN = Words()


def lines_of(listing: bytes) -> dict[int, bytes]:
    """The lines of a listing by job id; QslurmError if invalid."""
    try:
        return {int(line[: line.index(b"|")]): line for line in listing.splitlines()}
    except ValueError as error:
        raise QslurmError(f"Unexpected output of squeue: {listing[:200]!r}.") from error


def words_of(listing: bytes) -> dict[int, Words]:
    """User-written fields by job id; QslurmError if columns are misplaced."""
    found, position = {}, 0
    while position < len(listing):
        match = _WORDS.match(listing, position)
        if match is None:
            raise QslurmError(f"Unexpected output of squeue: {listing[position : position + 200]!r}.")
        job_id, *cells = match.groups()
        found[int(job_id)] = Words(*(_text(cell) for cell in cells))
        position = match.end()
    return found


def job_of(line: bytes, words: Words = NOTHING_WRITTEN) -> JobInfo:
    """A job from its line and its user-written fields; QslurmError if invalid."""
    cells = line.decode(errors="replace").strip().removesuffix("|").split("|")
    try:
        (job_id, state, reason, partition, user, account, qos, submit, start, end, status, restarts, limit,
         array_job, array_tasks, priority, nodes, eligible) = cells  # fmt: skip
        return JobInfo(
            job_id=int(job_id),
            state=state,
            reason=_said(reason),
            partition=partition,
            user=user,
            account=_said(account),
            qos=_said(qos),
            submit=_number(submit),
            start=_number(start),
            end=_number(end),
            status=_wait_status(status),
            restart_count=_number(restarts),
            limit_minutes=_minutes(limit),
            array_job=_number(array_job) if _said(array_tasks) else 0,
            array_index=_said(array_tasks),
            priority=_number(priority),
            nodes=_said(nodes),
            name=words.name,
            comment=words.comment,
            admin_comment=words.admin_comment,
            eligible=_number(eligible),
        )
    except ValueError as error:
        raise QslurmError(f"Unexpected output of squeue: {line[:200]!r}.") from error


def jobs_of(listing: bytes) -> dict[int, JobInfo]:
    """Jobs by id, without what people wrote on them; a QslurmError for what is no list of jobs."""
    return {job_id: job_of(line) for job_id, line in lines_of(listing).items()}


def _text(cell: bytes) -> str:
    text = cell.rstrip(b" ").decode(errors="ignore")  # the last character may be cut
    return "" if text == "(null)" else text


def _said(text: str) -> str:
    return "" if text in _NOTHING else text


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
