"""How did this start of a job end? Decided from what slurmctld shows while EpilogSlurmctld runs.

At that moment the state is COMPLETING and hides the real one (scontrol, squeue and slurmrestd alike), and the job
stays so until the hook is over, so it can't wait for better. Measured on Slurm 22.05:

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
| requeued, by whomever    | 0:0       | None            | **one more**  | none or future|

slurmctld gives a reason to each job that ends badly by itself (job_complete in its job_mgr.c), and keeps the state of
one that was cancelled, whatever its script's exit code: a bad code without a reason is that of a cancelled job.

A script that takes its time to end, or ignores the signal, is still among the job's steps when the hook of its
cancelled job runs; that of a job which ended by itself is not. A job that was cancelled before its script began
can't be told from one that completed; the dispatcher can: nothing of it ran.
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
"""The reason that stays with a job that ended badly (squeue(1), "JOB REASON CODES"), and the state it means."""

UNKNOWN = ""
"""Slurm could not be asked how the job ended."""


def was_requeued(job: JobInfo, now: float) -> bool:
    """Whether a job that is completing goes back to the queue: its end is unknown, or that of its next start."""
    return not job.end or job.end > now


def ending_state(job: JobInfo) -> str:
    """The state a completing job is going to, one that has ended has."""
    if job.state != "COMPLETING":
        return job.state
    for reason, state in REASONS.items():
        if job.reason.startswith(reason):
            return state
    return "CANCELLED" if job.status else "COMPLETED"


def ending_reason(job: JobInfo) -> str:
    """Slurm's reason for the end, "" for none. For a script that a signal has ended, 22.05 gives that of a launch that
    went wrong: the signal is told, as later releases do.
    """
    if job.reason.startswith("JobLaunchFailure") and job.status & 0x7F:
        from qslurm.slurm.states import raised_signal  # not for every hook

        return raised_signal(job.status)
    return job.reason


def finish_of(job_id: int, restart: int, key: str, job: JobInfo | None, now: float) -> Finish | None:
    """What to tell the dispatcher when the epilog of a job runs; None while Slurm can't say.

    `restart` is the hook's SLURM_JOB_RESTART_COUNT: after a requeue already that of the next start, so the one that
    is over is the one before.
    """
    if job is None:
        return None
    if job.restart_count == restart == 0 and not job.is_final and job.state != "COMPLETING":
        # No start came before this one: slurmctld was killed, and has forgotten that it ended, or even began.
        code = ReasonCode.END_UNKNOWN
        return Finish(job_id=job_id, restart=0, state="FAILED", reason=END_UNKNOWN, reason_code=code, key=key)
    if job.restart_count > restart:
        return Finish(job_id=job_id, restart=restart, state="REQUEUED", key=key)
    if job.state == "PENDING" or (job.state == "COMPLETING" and was_requeued(job, now)):
        return Finish(job_id=job_id, restart=max(restart - 1, 0), state="REQUEUED", key=key)
    if job.state != "COMPLETING" and not job.is_final:
        # It runs: the hook that reported it ran for the start before.
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


def told(ended: EndedJob) -> Finish:
    """What to tell the dispatcher of an end that Slurm has said."""
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
