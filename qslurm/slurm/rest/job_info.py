"""A job as C2 sees it, read from slurmctld's record or slurmdbd's."""

from __future__ import annotations

from math import isfinite
from typing import Any, Literal

import msgspec

from qslurm.payload.comment import Comment, marks_of, note_in
from qslurm.slurm.states import (
    OF_WAITING,
    by_signal,
    explain,
    is_final,
    outcome,
    pick,
    with_exit_code,
    word,
)

Record = dict[str, Any]

_UNSET = (2**32 - 2, 2**32 - 1)
"""slurm.h's NO_VAL and INFINITE."""

PLATFORM_SAYS = "qslurm: "
"""Begins an admin comment, which only C2 itself can write: why its prolog plugin has cancelled the job."""


class JobInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A job on C2. Times are Unix seconds, None while they are not known; `source` says who told.

    `exit_code` and `signal` are those of the batch script, None while it has not ended, and where nobody says;
    `core_dumped` says whether it has left its memory (24.11 and later don't tell). `time_limit_minutes` is None without
    a limit. `expected_start_time` is slurmctld's guess for a waiting job, `priority` its place among those (the highest
    is next). `cancelled_by` is who cancelled it, as far as slurmdbd knows. `state` and `reason` are Slurm's own words.

    A task of an array has the array's id as `array_job_id` and its index as `array_task_id`; the tasks that wait
    share one record, which names them in `array_tasks` ("4-9%2") instead.
    """

    job_id: int
    name: str
    state: str
    reason: str = ""
    partition: str = ""
    user: str = ""
    account: str = ""
    cluster: str = ""
    qos: str = ""
    nodes: str = ""
    comment: str = ""
    admin_comment: str = ""
    submit_time: int | None = None
    start_time: int | None = None
    expected_start_time: int | None = None
    end_time: int | None = None
    exit_code: int | None = None
    signal: int | None = None
    core_dumped: bool = False
    restart_count: int = 0
    time_limit_minutes: int | None = None
    array_job_id: int | None = None
    array_task_id: int | None = None
    array_tasks: str = ""
    priority: int | None = None
    cancelled_by: str = ""
    source: Literal["slurmctld", "slurmdbd"] = "slurmctld"

    @property
    def is_final(self) -> bool:
        """Whether the job is over."""
        return is_final(self.state)

    @property
    def outcome(self) -> str:
        """How it ended: completed, failed, cancelled or timed_out; a QslurmError while it has not."""
        return outcome(self.state)

    @property
    def word(self) -> str:
        """The state as people read it."""
        return word(self.state)

    @property
    def why(self) -> str:
        """Why it waits, or ended as it did, in words; empty when there is nothing to say."""
        said = note_in(self.admin_comment)
        if self.is_final and said.startswith(PLATFORM_SAYS):
            return said.removeprefix(PLATFORM_SAYS).strip().rstrip(".")
        if self.state == "FAILED" and self.signal:
            return by_signal(self.signal, core_dumped=self.core_dumped)
        if self.state == "FAILED" and self.exit_code and self.reason in ("", "NonZeroExitCode"):
            return with_exit_code(self.exit_code)
        return "" if self.is_final and self.reason in OF_WAITING else explain(self.reason)

    @property
    def shown_id(self) -> str:
        """The id that people know: 12, 12_3 for a task of an array, 12_[4-9] for those that wait."""
        if self.array_job_id is None:
            return str(self.job_id)
        if self.array_task_id is not None:
            return f"{self.array_job_id}_{self.array_task_id}"
        return f"{self.array_job_id}_[{self.array_tasks}]"

    @property
    def marks(self) -> Comment:
        """What the job's comment, or C2's copy of it, says of it: key, kind, backend, origin."""
        return marks_of(self.comment, self.admin_comment)


def from_slurmctld(record: Record) -> JobInfo:
    """Read one of slurmctld's records; v0.0.38 has numbers where v0.0.39 has {set, infinite, number}."""
    state = pick(record.get("job_state"))
    code, signal, core = _exit(record.get("exit_code")) if is_final(state) else (None, None, False)
    start = _time(record.get("start_time"))
    return JobInfo(
        job_id=number(record["job_id"]) or 0,
        name=text(record.get("name")),
        state=state,
        reason=_reason(record.get("state_reason")),
        partition=text(record.get("partition")),
        user=text(record.get("user_name")),
        account=text(record.get("account")),
        cluster=text(record.get("cluster")),
        qos=text(record.get("qos")),
        nodes=text(record.get("nodes")),
        comment=text(record.get("comment")),
        admin_comment=text(record.get("admin_comment")),
        submit_time=_time(record.get("submit_time")),
        start_time=None if state == "PENDING" else start,
        expected_start_time=start if state == "PENDING" else None,
        # of a running job slurmctld gives the time at which its limit will be reached
        end_time=_time(record.get("end_time")) if is_final(state) else None,
        exit_code=code,
        signal=signal,
        core_dumped=core,
        restart_count=number(record.get("restart_cnt")) or 0,
        time_limit_minutes=number(record.get("time_limit")),
        array_job_id=_time(record.get("array_job_id")),
        array_task_id=number(record.get("array_task_id")),
        array_tasks=text(record.get("array_task_string")),
        priority=number(record.get("priority")),
        source="slurmctld",
    )


def from_slurmdbd(record: Record) -> JobInfo:
    """Read one of slurmdbd's records."""
    told = _object(record.get("state"))
    time = _object(record.get("time"))
    comment = record.get("comment")
    comment = comment if isinstance(comment, dict) else {"job": comment}
    state = pick(told.get("current"))
    array = _object(record.get("array"))
    code, signal, core = _exit(record.get("exit_code")) if is_final(state) else (None, None, False)
    if code == 0 and state != "COMPLETED":  # said of every job that left by itself (22.05, 23.02)
        code = None
    return JobInfo(
        job_id=number(record["job_id"]) or 0,
        name=text(record.get("name")),
        state=state,
        reason=_reason(told.get("reason")),
        partition=text(record.get("partition")),
        user=text(record.get("user") or _object(record.get("association")).get("user")),
        account=text(record.get("account")),
        cluster=text(record.get("cluster")),
        qos=text(record.get("qos")),
        nodes=text(record.get("nodes")),
        comment=text(comment.get("job")),
        admin_comment=text(comment.get("administrator")),
        submit_time=_time(time.get("submission")),
        start_time=_time(time.get("start")),
        end_time=_time(time.get("end")),
        exit_code=code,
        signal=signal,
        core_dumped=core,
        restart_count=number(record.get("restart_cnt")) or 0,
        time_limit_minutes=number(time.get("limit")),
        array_job_id=_time(array.get("job_id")),
        array_task_id=number(array.get("task_id")),
        array_tasks=text(array.get("task")),
        cancelled_by=text(record.get("kill_request_user")),
        source="slurmdbd",
    )


def partition_state(record: Record) -> tuple[str, str]:
    """A partition's name and state; v0.0.39 says none, from v0.0.40 it is a list, one level deeper."""
    state = record.get("state") or _object(record.get("partition")).get("state")
    return text(record.get("name")), text(
        state[0] if isinstance(state, list) and state else state
    ) or "UNKNOWN"


def text(value: object) -> str:
    """A text that may be missing."""
    return value if isinstance(value, str) else ""


def number(value: object) -> int | None:
    """A number that may be missing, unset or infinite (None), plain or as {set, infinite, number}.

    Plain, one that is unset or infinite is Slurm's NO_VAL or INFINITE: 23.02 says so of a start that never was.
    """
    if isinstance(value, dict):
        if not value.get("set") or value.get("infinite"):
            return None
        value = value.get("number")
    if not isinstance(value, int | float) or not isfinite(value) or value in _UNSET:
        return None
    return int(value)


def _object(value: object) -> Record:
    return value if isinstance(value, dict) else {}


def _time(value: object) -> int | None:
    return number(value) or None


def _reason(value: object) -> str:
    reason = text(value)
    return "" if reason == "None" else reason


def _exit(value: object) -> tuple[int | None, int | None, bool]:
    """Exit code, signal, and whether a core was dumped: slurmctld gives wait(2)'s status word (768 is exit 3), slurmdbd
    an object.
    """
    if isinstance(value, dict) and "return_code" in value:
        told = _object(value.get("signal"))
        signal = number(told.get("signal_id", told.get("id"))) or None
        core = "CORE_DUMPED" in (value.get("status") or ())
        return (None if signal else number(value["return_code"])), signal, core
    status = number(value)
    if status is None:
        return None, None, False
    return (None, status & 0x7F, bool(status & 0x80)) if status & 0x7F else (status >> 8, None, False)
