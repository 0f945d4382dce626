"""A job that slurmctld has forgotten: what became of it?

A slurmctld that is killed within seconds of accepting a job, or starting it, comes back without it (measured on
22.05; it saves its state about every 5 s). slurmdbd then shows the job as pending or running for ever, while in truth
it may run on to its end. The platform knows: every job that was let in has a task in its store.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from qslurm.slurmrest import JobInfo

FORGOTTEN = "ForgottenBySlurmctld"
"""The reason of a job that nothing has run and nothing will."""

STATES: Mapping[str, str] = {
    # the store's word for a task: Slurm's word for its job
    "admitted": "RUNNING",
    "running": "RUNNING",
    "finished": "COMPLETED",
    "failed": "FAILED",
    "cancelled": "CANCELLED",
    "timed_out": "TIMEOUT",
    "withdrawn": "PENDING",
}


def is_forgotten(job: JobInfo) -> bool:
    """Whether slurmctld does not know a job that, as far as slurmdbd knows, has not ended."""
    return job.source == "slurmdbd" and not job.is_final


def judged(job: JobInfo, platform: Mapping[str, Any] | None) -> JobInfo:
    """A forgotten job as it really is, by what the platform says of it.

    `platform` is None when it could not be asked, and empty when it never heard of the job: then nothing of it was
    run, and it counts as failed, so that nobody waits for it.
    """
    if platform is None:
        return job
    if not platform:
        return msgspec.structs.replace(job, state="FAILED", reason=FORGOTTEN)
    state = STATES.get(str(platform.get("state")), job.state)
    return msgspec.structs.replace(job, state=state, reason="")
