"""Cancels jobs at Quantum Inspire if the process that submitted them is killed.

That happens when a job is cancelled, or its circuit takes too long.
"""

from __future__ import annotations

import logging

import msgspec

from qslurm.errors import QslurmError
from qslurm.runtimes.quantum_inspire.platform_link import (
    PlatformLink,
    RequestRefusedError,
    UnavailableError,
    connect,
)
from qslurm.system.guard_process import listen

log = logging.getLogger(__name__)

_CANCEL_REASON = "The job was abandoned."


class JobGuardSettings(msgspec.Struct, frozen=True):
    """The credentials, and how long a reply may take."""

    credentials: str
    timeout_s: float


def main() -> None:
    """The guard's main function; its note has the ids of the open jobs."""
    settings_json, jobs = listen()
    if not jobs:
        return
    settings = msgspec.json.decode(settings_json, type=JobGuardSettings)
    try:
        link, _ = connect(settings.credentials, settings.timeout_s)
        for job in jobs.split():
            cancel(link, int(job))
        link.close()
    except QslurmError as error:
        log.warning("cannot cancel jobs %s at Quantum Inspire: %s", jobs, error)


def cancel(link: PlatformLink, job_id: int) -> bool:
    """Cancel a job that has not started; one that has cannot be cancelled and runs to its end.

    Returns whether the job is cancelled. Raises UnavailableError or RequestRefusedError if that is unknown.
    """
    from compute_api_client import Job, JobPatch, JobStatus

    job: Job = link.call(Job, "JobsApi", "read_job_jobs_id_get", job_id)
    if job.status == JobStatus.PLANNED:
        patch = JobPatch(status=JobStatus.CANCELLED, message=_CANCEL_REASON)
        try:
            job = link.call(Job, "JobsApi", "update_job_status_jobs_id_patch", job_id, patch)
        except (UnavailableError, RequestRefusedError):
            job = link.call(Job, "JobsApi", "read_job_jobs_id_get", job_id)
    return bool(job.status == JobStatus.CANCELLED)
