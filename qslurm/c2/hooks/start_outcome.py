"""Finds how a start of a job ended, from what slurmctld shows while EpilogSlurmctld runs.

The state is COMPLETING then, in scontrol, squeue and slurmrestd alike, and hides the final one until the hook has
ended. Measured with Slurm 22.05:

| what happened            | exit code | reason          | restart count | end time      |
|--------------------------|-----------|-----------------|---------------|---------------|
| script ended with 0      | 0:0       | None            | same          | past          |
| script ended with 3      | 3:0       | NonZeroExitCode | same          | past          |
| script killed itself     | 0:15      | JobLaunchFailure| same          | past          |
| cancelled while running  | 0:15      | None            | same          | past          |
| cancelled, still running | 0:0       | None            | same          | past          |
| cancelled, trap 'exit 3' | 3:0       | None            | same          | past          |
| cancelled in the prolog  | 0:0       | None            | same          | past          |
| time limit               | 0:15      | TimeLimit       | same          | past          |
| requeued                 | 0:0       | None            | **one more**  | none or future|

slurmctld sets a reason for each job that fails by itself (job_complete in job_mgr.c), and keeps the state of a
cancelled one whatever its script's exit code: a non-zero code without a reason means cancelled.

A script that ends slowly, or ignores the signal, is still among the job's steps when the hook of its cancelled job
runs; that of a job which ended by itself is not. A job cancelled before its script began looks like one that
completed; the dispatcher knows that nothing of it ran.
"""

from __future__ import annotations

from collections.abc import Mapping

from qslurm.c2.hooks.spool import EndedJob
from qslurm.protocol.messages import Finish
from qslurm.reason_codes import END_UNKNOWN, ReasonCode
from qslurm.slurm.job_info import JobInfo

REASONS: Mapping[str, str] = {
    "TimeLimit": "TIMEOUT",
    "NonZeroExitCode": "FAILED",
    "JobLaunchFailure": "FAILED",
    "RaisedSignal": "FAILED",
    "OutOfMemory": "OUT_OF_MEMORY",
    "NodeDown": "NODE_FAIL",
    "SystemFailure": "FAILED",
    "DeadLine": "DEADLINE",
}
"""The final state by the reason that a failed job keeps (squeue(1), "JOB REASON CODES")."""


def was_requeued(job: JobInfo, now: float) -> bool:
    """Whether a completing job is being requeued: its end time is unset, or that of its next start."""
    return not job.end or job.end > now


def ending_state(job: JobInfo) -> str:
    """The final state of a job that is completing or has ended."""
    if job.state != "COMPLETING":
        return job.state
    for reason, state in REASONS.items():
        if job.reason.startswith(reason):
            return state
    return "CANCELLED" if job.status else "COMPLETED"


def ending_reason(job: JobInfo) -> str:
    """Slurm's reason for the end, "" for none. For a script killed by a signal it names the signal, as newer releases
    do; 22.05 says that the launch failed.
    """
    if job.reason.startswith("JobLaunchFailure") and job.status & 0x7F:
        from qslurm.slurm.states import raised_signal  # not for every hook

        return raised_signal(job.status)
    return job.reason


def finish_of(job_id: int, restart: int, key: str, job: JobInfo | None, now: float) -> Finish | None:
    """What to report to the dispatcher when a job's epilog runs; None if Slurm does not know the job.

    `restart` is the hook's SLURM_JOB_RESTART_COUNT: after a requeue it is already that of the next start.
    """
    if job is None:
        return None
    if job.restart_count == restart == 0 and not job.is_final and job.state != "COMPLETING":
        # No start came before this one: slurmctld was killed before it saved that this one ended, or began.
        code = ReasonCode.END_UNKNOWN
        return Finish(job_id=job_id, restart=0, state="FAILED", reason=END_UNKNOWN, reason_code=code, key=key)
    if job.restart_count > restart:
        return Finish(job_id=job_id, restart=restart, state="REQUEUED", key=key)
    if job.state == "PENDING" or (job.state == "COMPLETING" and was_requeued(job, now)):
        return Finish(job_id=job_id, restart=max(restart - 1, 0), state="REQUEUED", key=key)
    if job.state != "COMPLETING" and not job.is_final:
        # It runs again: the hook was called for the previous start.
        return Finish(job_id=job_id, restart=max(restart - 1, 0), state="REQUEUED", key=key)
    return Finish(
        job_id=job_id,
        restart=restart,
        state=ending_state(job),
        exit_code=job.status >> 8,
        reason=ending_reason(job),
        key=key,
        ended_at=float(job.end) if job.end and job.end <= now else None,
    )


def finish_message(ended: EndedJob) -> Finish:
    """The report to the dispatcher of an end whose state is known."""
    return Finish(
        job_id=ended.job_id,
        restart=ended.restart,
        state=ended.state,
        exit_code=ended.exit_code,
        reason=ended.reason,
        reason_code=ended.reason_code,
        key=ended.key,
        ended_at=ended.when if ended.ended_at is None else ended.ended_at,
    )
