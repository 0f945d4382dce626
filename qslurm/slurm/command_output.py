"""What Slurm's commands print about jobs, nodes and partitions, and how it is read.

Jobs are read with squeue's own fields, none of which a user can write: a job's name may say `JobState=COMPLETED`. What
people wrote on a job is read by slurm/squeue_output.py.
"""

from __future__ import annotations

import msgspec

from qslurm.errors import QslurmError

_FIELDS = (
    "JobID", "State", "Partition", "Reason", "RestartCnt", "exit_code", "EligibleTime", "EndTime", "StartTime",
)  # fmt: skip
FACTS = ",".join(f"{field}:|" for field in _FIELDS)
"""squeue's --Format for parse_jobs."""

NAMES = "JobID:|,ArrayJobID:|,ArrayTaskID:|"
"""squeue's --Format for parse_named."""


class JobFacts(msgspec.Struct, frozen=True, kw_only=True):
    """One job as slurmctld sees it. `exit_code` is a wait status (256 x code + signal, and
    128 with a core dump), times are Unix seconds.
    """

    job_id: int
    state: str
    partition: str = ""
    reason: str = ""
    restart: int = 0
    exit_code: int = 0
    eligible: float | None = None
    end: float | None = None
    start: float | None = None

    @property
    def live(self) -> bool:
        """Whether the job has not ended for good; a state nobody knows counts as alive."""
        from qslurm.slurm.states import is_final

        return not is_final(self.state)


class NamedJob(msgspec.Struct, frozen=True, kw_only=True):
    """A job by the name that means it only: 12, or 12_3 for a task of an array."""

    slurm_id: str
    array_task: int | None = None


class DrainedNode(msgspec.Struct, frozen=True, kw_only=True):
    """A node that takes no new jobs, why, and who said so (`by` is a uid)."""

    name: str
    reason: str
    by: int


def parse_drained(text: str) -> list[DrainedNode]:
    """Drained nodes, from sinfo's lines, one for each of their partitions.

    What is not one is left out: nothing is done about it then.
    """
    found = {}
    for line in text.splitlines():
        name, _, rest = line.strip().removesuffix("|").partition("|")
        reason, _, who = rest.rpartition("|")
        uid = who.rpartition("(")[2].removesuffix(")")  # slurm(64030)
        if uid.isascii() and uid.isdigit():
            found[name] = DrainedNode(name=name, reason=reason, by=int(uid))
    return list(found.values())


def parse_jobs(text: str) -> dict[int, JobFacts]:
    """Jobs by id, from squeue's lines; a line that isn't one is a QslurmError."""
    jobs = {}
    for line in text.splitlines():
        cells = line.strip().split("|")
        try:
            job_id, state, partition, reason, restart, exit_code, eligible, end, start = cells[: len(_FIELDS)]
            job = JobFacts(
                job_id=int(job_id),
                state=state,
                partition=partition,
                reason=reason,
                restart=int(restart),
                exit_code=_wait_status(exit_code),
                eligible=_time(eligible),
                end=_time(end),
                start=_time(start),
            )
        except ValueError as error:
            raise QslurmError(f"squeue said what is not a job: {line[:200]!r}.") from error
        jobs[job.job_id] = job
    return jobs


def parse_named(text: str, job_id: int) -> NamedJob | None:
    """The job with this id among squeue's lines (the id of an array's last task means them all to squeue)."""
    for line in text.splitlines():
        cells = line.strip().removesuffix("|").split("|")
        if cells[0] != str(job_id) or len(cells) < 3:
            continue
        _, array, index = cells
        if index.isascii() and index.isdigit():
            return NamedJob(slurm_id=f"{array}_{index}", array_task=int(index))
        return NamedJob(slurm_id=str(job_id))
    return None


def parse_partitions(text: str) -> dict[str, str]:
    """States by partition name, from `scontrol -o show partitions`."""
    states = {}
    for line in text.splitlines():
        words = dict(word.split("=", 1) for word in line.split() if "=" in word)
        if "PartitionName" in words and "State" in words:
            states[words["PartitionName"]] = words["State"]
    return states


def _time(text: str) -> float | None:
    return float(text) if text.isascii() and text.isdigit() else None


def _wait_status(text: str) -> int:
    """22.05 prints the wait status, 24.11 and 26.05 print "code:signal"."""
    code, colon, signal = text.partition(":")
    return 256 * int(code) + int(signal) if colon else int(code)
