"""Determines what became of a job that slurmctld has lost.

A slurmctld that is killed within seconds of accepting or starting a job comes back without it (measured on 22.05; it
saves its state about every 5 s). slurmdbd then shows the job as pending or running forever, although it may run to its
end. The platform knows: every admitted job has a task in its store, under its key. The job's id may be reused by then.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import msgspec

from qslurm.payload.comment import mark_words
from qslurm.reason_codes import ReasonCode
from qslurm.slurm.job_info import NOT_KNOWN, JobInfo

FORGOTTEN = "ForgottenBySlurmctld"
"""The reason of a lost job that has not run and never will."""

LAUNCH_S = 5
"""Seconds within which C2 launches a job's script, as a rule."""

OPEN = ("admitted", "running")
"""States of a start that has not ended."""

STATES: Mapping[str, str] = {
    # state of a task in the store: state of its job in Slurm
    "admitted": "RUNNING",
    "running": "RUNNING",
    "finished": "COMPLETED",
    "failed": "FAILED",
    "cancelled": "CANCELLED",
    "timed_out": "TIMEOUT",
    "withdrawn": "PENDING",
}


Start = Mapping[str, Any]
"""One start of a submission, as the job manager reports it."""

Fate = Literal["never_ran", "may_run", "ran"]


def fate(starts: Sequence[Start]) -> Fate:
    """The outcome of a submission that slurmctld does not know, from all its starts, newest first.

    One that never ran may be submitted again: no start has begun, or Slurm withdrew those that had. So may an array of
    circuits that ran in part: the platform gives repeated tasks the results that it has.
    """
    if any(start["state"] in OPEN for start in starts):
        return "may_run"
    ran = [start for start in starts if _ran(start)]
    parts = {str(start["key"]) for start in ran}
    if any("#" in part for part in parts) and all(start["kind"] == "circuit" for start in ran):
        return "never_ran"
    return "ran" if ran else "never_ran"


def standing(starts: Sequence[Start]) -> Start:
    """The start that determines the state of a submission that has run, or may be running."""
    return next((start for start in starts if start["state"] in OPEN or _ran(start)), starts[0])


def _ran(start: Start) -> bool:
    if start["state"] == "cancelled":  # on purpose: it must not run
        return True
    begun = start["started_at"] is not None or start["state"] == "finished"
    return start["state"] != "withdrawn" and begun


def is_forgotten(job: JobInfo) -> bool:
    """Whether slurmctld has lost a job that, according to slurmdbd, has not ended."""
    return job.source == "slurmdbd" and not job.is_final


def is_written_off(job: JobInfo) -> bool:
    """Whether slurmdbd reports a job as cancelled by an unknown user, so that it may be lost instead.

    A slurmctld that starts without its state makes slurmdbd mark all open jobs as cancelled (flush_jobs_on_cluster).
    A user's cancellation sets `kill_requid`, but slurmdbd 22.05 clears it when it starts: so this is no proof.
    """
    return job.source == "slurmdbd" and job.state == "CANCELLED" and not job.cancelled_by


def may_be_lost(job: JobInfo, *, has_job_manager: bool) -> bool:
    """Whether an open submission's job may not have run, whatever its state says."""
    return job.reason == FORGOTTEN or (has_job_manager and is_written_off(job))


def judged(job: JobInfo, platform: Mapping[str, Any] | None) -> JobInfo:
    """Correct a lost job's record by the platform's record.

    `platform` is None if the job manager did not answer, and empty if it has no record: then the job never ran, and
    counts as failed, so that no wait for it continues.
    """
    if platform is None:
        return job
    if not platform:
        return msgspec.structs.replace(job, state="FAILED", reason=FORGOTTEN)
    state = STATES.get(str(platform.get("state")), job.state)
    return msgspec.structs.replace(job, state=state, reason="")


def as_it_ended(job: JobInfo, platform: Mapping[str, Any] | None) -> JobInfo:
    """Correct a cancelled job that had ended before, by the platform's record.

    slurmctld may have lost the end when it was killed; then the job's second start was refused, or the gate cancelled
    the job. `platform` is as for `judged`.
    """
    facts = platform or {}
    ended, slurm_state = str(facts.get("state")), facts.get("slurm_state")
    is_unknown = facts.get("reason_code") == ReasonCode.END_UNKNOWN
    if ended in ("finished", "failed", "timed_out") and (slurm_state not in ("", "CANCELLED") or is_unknown):
        return msgspec.structs.replace(
            job,
            state=STATES[ended],
            reason="",
            admin_comment=mark_words(job.admin_comment),
            status=0 if ended == "finished" else NOT_KNOWN,
        )
    return job


def may_be_cancelled(job: JobInfo) -> bool:
    """Whether a completed script may have been cancelled while it was launched: slurmctld 22.05 confuses the two.

    An array's tasks are believed: they may be hundreds, and the platform is asked about one at a time.
    """
    return (
        job.state == "COMPLETED"
        and job.array_job_id is None
        and job.marks.kind == "script"
        and job.marks.key != ""
        and job.end - job.start <= LAUNCH_S
    )


def as_cancelled(job: JobInfo, platform: Mapping[str, Any] | None) -> JobInfo:
    """Correct a completed job that the platform knows as cancelled; `platform` is as for `judged`."""
    if (platform or {}).get("state") != "cancelled":
        return job
    return msgspec.structs.replace(job, state="CANCELLED", reason="", status=NOT_KNOWN)
