"""Jobs for tests, by the names that docs/json.md has."""

from __future__ import annotations

from typing import Any

from qslurm.slurm.job_info import JobInfo

FIELDS = {
    "submit_time": "submit",
    "start_time": "start",
    "expected_start_time": "start",
    "end_time": "end",
    "time_limit_minutes": "limit_minutes",
    "array_job_id": "array_job",
    "array_tasks": "array_index",
}


def job_info(*, source: str = "slurmctld", **facts: Any) -> JobInfo:
    """A job of which these facts are known; None for one that is not."""
    known = {FIELDS.get(name, name): value for name, value in facts.items() if value is not None}
    if (index := known.pop("array_task_id", None)) is not None:
        known["array_index"] = str(index)
    code, signal = known.pop("exit_code", None), known.pop("signal", None)
    if code is not None or signal is not None:
        known["status"] = 256 * (code or 0) + (signal or 0) + 128 * known.pop("core_dumped", False)
    return JobInfo(**known, from_slurmdbd=source == "slurmdbd")
