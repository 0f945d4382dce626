"""A job as Slurm knows it, from squeue, slurmctld, slurmdbd, the job manager or the agent.

Encoded as an array without names, it has a tenth of the size of slurmrestd's record. Add fields at the end, with a
default: older readers ignore them, and newer readers do not require them.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from qslurm.payload.comment import Comment, marks_of, note_in
from qslurm.slurm.states import OF_WAITING, by_signal, explain, is_final, outcome, with_exit_code, word

NOT_KNOWN = -1
"""Stands for an unknown number, where 0 is a value."""

PLATFORM_SAYS = "qslurm: "
"""Prefix of an admin comment, set only by C2: why its prolog cancelled the job."""


class JobInfo(msgspec.Struct, frozen=True, kw_only=True, array_like=True, gc=False):
    """One job, one task of an array, or the tasks of an array that wait and share a record.

    The fields are compact; use the properties, which are None for unknown values. `state` and `reason` are Slurm's
    names. Times are Unix seconds, 0 if unknown: `start` of a pending job is slurmctld's estimate, `end` of a running
    one is when its limit is reached, `eligible` when it may start. `status` is the batch script's wait status (256 x
    exit code + signal, plus 128 if it dumped core). `limit_minutes` and `array_job` are 0 without a limit or an array.
    `array_index` is one index, or "4-9%2" for pending tasks, of which `task` selects one. The pending job with the
    highest `priority` is next. `cancelled_by` is the user who cancelled it, if slurmdbd knows.
    """

    job_id: int
    state: str
    reason: str = ""
    partition: str = ""
    user: str = ""
    account: str = ""
    qos: str = ""
    submit: int = 0
    start: int = 0
    end: int = 0
    status: int = NOT_KNOWN
    restart_count: int = 0
    limit_minutes: int = 0
    array_job: int = 0
    array_index: str = ""
    priority: int = NOT_KNOWN
    nodes: str = ""
    name: str = ""
    comment: str = ""
    admin_comment: str = ""
    cluster: str = ""
    cancelled_by: str = ""
    from_slurmdbd: bool = False
    eligible: int = 0
    task: int = NOT_KNOWN

    @property
    def is_final(self) -> bool:
        """Whether the job has ended; False for an unknown state."""
        return is_final(self.state)

    @property
    def outcome(self) -> str:
        """The outcome: completed, failed, cancelled or timed_out; QslurmError while it has not ended."""
        return outcome(self.state)

    @property
    def word(self) -> str:
        """The state as a word for people."""
        return word(self.state)

    @property
    def why(self) -> str:
        """Why it is pending or has ended, as text; "" if there is no reason."""
        note = note_in(self.admin_comment)
        if self.is_final and note.startswith(PLATFORM_SAYS):
            return note.removeprefix(PLATFORM_SAYS).strip().rstrip(".")
        if self.state == "FAILED" and self.signal:
            return by_signal(self.signal, core_dumped=self.core_dumped)
        if self.state == "FAILED" and self.exit_code and self.reason in ("", "NonZeroExitCode"):
            return with_exit_code(self.exit_code)
        return "" if self.is_final and self.reason in OF_WAITING else explain(self.reason)

    @property
    def submit_time(self) -> int | None:
        """When it was submitted."""
        return self.submit or None

    @property
    def start_time(self) -> int | None:
        """When it started."""
        return None if self.state == "PENDING" else self.start or None

    @property
    def expected_start_time(self) -> int | None:
        """When slurmctld expects it to start, if it is pending."""
        return (self.start or None) if self.state == "PENDING" else None

    @property
    def end_time(self) -> int | None:
        """When it ended."""
        return (self.end or None) if self.is_final else None

    @property
    def exit_code(self) -> int | None:
        """The batch script's exit code, if it was not killed."""
        return self.status >> 8 if self._has_status and not self.status & 0x7F else None

    @property
    def signal(self) -> int | None:
        """The signal that ended the batch script."""
        return (self.status & 0x7F or None) if self._has_status else None

    @property
    def core_dumped(self) -> bool:
        """Whether the batch script dumped core (24.11 and later do not report it)."""
        return self.signal is not None and bool(self.status & 0x80)

    @property
    def _has_status(self) -> bool:
        return self.is_final and self.status != NOT_KNOWN

    @property
    def time_limit_minutes(self) -> int | None:
        """Its time limit; None without one."""
        return self.limit_minutes or None

    @property
    def array_job_id(self) -> int | None:
        """The job id of its array."""
        return self.array_job or None

    @property
    def array_task_id(self) -> int | None:
        """Its index in the array."""
        if self.task != NOT_KNOWN:
            return self.task
        return int(self.array_index) if self.array_job and self.array_index.isdigit() else None

    @property
    def array_tasks(self) -> str:
        """The pending tasks that share this record ("4-9%2")."""
        return "" if self.array_index.isdigit() else self.array_index

    @property
    def source(self) -> Literal["slurmctld", "slurmdbd"]:
        """The source of the record."""
        return "slurmdbd" if self.from_slurmdbd else "slurmctld"

    @property
    def array_or_job_id(self) -> int:
        """The job id that its submission returned: that of its array, if it is an array task."""
        return self.array_job or self.job_id

    @property
    def shown_id(self) -> str:
        """The shown id: 12, 12_3 for an array task, 12_[4-9] for pending tasks."""
        if not self.array_job:
            return str(self.job_id)
        if self.array_task_id is not None:
            return f"{self.array_job}_{self.array_task_id}"
        return f"{self.array_job}_[{self.array_tasks}]"

    @property
    def marks(self) -> Comment:
        """The job's marks from its comment or C2's copy: key, kind, backend, origin."""
        return marks_of(self.comment, self.admin_comment)


_DOCUMENTED = (
    *("job_id", "name", "state", "reason", "partition", "user", "account", "cluster", "qos", "nodes"),
    *(
        "comment",
        "admin_comment",
        "submit_time",
        "start_time",
        "expected_start_time",
        "end_time",
        "exit_code",
    ),
    *("signal", "core_dumped", "restart_count", "time_limit_minutes", "array_job_id", "array_task_id"),
    *("array_tasks", "priority", "cancelled_by", "source"),
)


def facts_of(job: JobInfo) -> dict[str, object]:
    """The job as in docs/json.md, with None for unknown values."""
    facts = {name: getattr(job, name) for name in _DOCUMENTED}
    return {**facts, "priority": None if job.priority == NOT_KNOWN else job.priority}
