"""Reads a job from a record of slurmctld or slurmdbd."""

from __future__ import annotations

from math import isfinite
from typing import Any

from qslurm.slurm.job_info import NOT_KNOWN, JobInfo
from qslurm.slurm.states import is_final, pick

Record = dict[str, Any]

_UNSET = (2**32 - 2, 2**32 - 1)
"""slurm.h's NO_VAL and INFINITE."""


def from_slurmctld(record: Record) -> JobInfo:
    """Read one of slurmctld's records; v0.0.38 has numbers where v0.0.39 has {set, infinite, number}."""
    state = pick(record.get("job_state"))
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
        submit=number(record.get("submit_time")) or 0,
        start=number(record.get("start_time")) or 0,
        end=(number(record.get("end_time")) or 0) if is_final(state) else 0,
        status=_wait_status(record.get("exit_code")) if is_final(state) else NOT_KNOWN,
        restart_count=number(record.get("restart_cnt")) or 0,
        limit_minutes=number(record.get("time_limit")) or 0,
        array_job=number(record.get("array_job_id")) or 0,
        array_index=_array_index(record.get("array_task_id"), record.get("array_task_string")),
        priority=_or_not_known(number(record.get("priority"))),
    )


def from_slurmdbd(record: Record) -> JobInfo:
    """Read one of slurmdbd's records."""
    found_state = _object(record.get("state"))
    time = _object(record.get("time"))
    comment = record.get("comment")
    comment = comment if isinstance(comment, dict) else {"job": comment}
    state = pick(found_state.get("current"))
    array = _object(record.get("array"))
    status = _wait_status(record.get("exit_code")) if is_final(state) else NOT_KNOWN
    if status == 0 and state != "COMPLETED":  # 22.05 and 23.02 report 0 for every exit code
        status = NOT_KNOWN
    return JobInfo(
        job_id=number(record["job_id"]) or 0,
        name=text(record.get("name")),
        state=state,
        reason=_reason(found_state.get("reason")),
        partition=text(record.get("partition")),
        user=text(record.get("user") or _object(record.get("association")).get("user")),
        account=text(record.get("account")),
        cluster=text(record.get("cluster")),
        qos=text(record.get("qos")),
        nodes=text(record.get("nodes")),
        comment=text(comment.get("job")),
        admin_comment=text(comment.get("administrator")),
        submit=number(time.get("submission")) or 0,
        start=number(time.get("start")) or 0,
        end=number(time.get("end")) or 0,
        status=status,
        restart_count=number(record.get("restart_cnt")) or 0,
        limit_minutes=number(time.get("limit")) or 0,
        array_job=number(array.get("job_id")) or 0,
        array_index=_array_index(array.get("task_id"), array.get("task")),
        cancelled_by=text(record.get("kill_request_user")),
        from_slurmdbd=True,
    )


def partition_state(record: Record) -> tuple[str, str]:
    """A partition's name and state. v0.0.39 has no state; from v0.0.40 it is a list, one level deeper."""
    state = record.get("state") or _object(record.get("partition")).get("state")
    return text(record.get("name")), text(
        state[0] if isinstance(state, list) and state else state
    ) or "UNKNOWN"


def text(value: object) -> str:
    """A text; "" if missing."""
    return value if isinstance(value, str) else ""


def number(value: object) -> int | None:
    """A number, plain or as {set, infinite, number}; None if missing, unset or infinite.

    A plain one that is unset or infinite is Slurm's NO_VAL or INFINITE, such as the start of a job that never started.
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


def _or_not_known(value: int | None) -> int:
    return NOT_KNOWN if value is None else value


def _array_index(task: object, waiting: object) -> str:
    """One task's index, or those of the pending tasks that share the record."""
    index = number(task)
    return text(waiting) if index is None else str(index)


def _reason(value: object) -> str:
    reason = text(value)
    return "" if reason == "None" else reason


def _wait_status(value: object) -> int:
    """wait(2)'s status word (768 is exit 3), as slurmctld gives it; slurmdbd gives an object."""
    if isinstance(value, dict) and "return_code" in value:
        found_signal = _object(value.get("signal"))
        if signal := number(found_signal.get("signal_id", found_signal.get("id"))):
            return signal + 0x80 * ("CORE_DUMPED" in (value.get("status") or ()))
        code = number(value["return_code"])
        return NOT_KNOWN if code is None else code << 8
    return _or_not_known(number(value))
