"""Cancels at Quantum Inspire what nobody waits for any more, when the process that sent it is killed.

That is what happens when a job is cancelled, or its circuit takes too long.
"""

from __future__ import annotations

import logging

import msgspec

from qslurm.errors import QslurmError
from qslurm.runtimes.quantum_inspire.platform_link import (
    AwayError,
    PlatformLink,
    RequestRefusedError,
    connect,
)
from qslurm.system.guard import listen

log = logging.getLogger(__name__)

_WHY = "The job was abandoned."


class JobGuardSettings(msgspec.Struct, frozen=True):
    """Where the credentials are, and how long an answer may take."""

    credentials: str
    timeout_s: float


def main() -> None:
    """What the guard does; what it is told of are the ids of the jobs that are at the platform."""
    told, jobs = listen()
    if not jobs:
        return
    charge = msgspec.json.decode(told, type=JobGuardSettings)
    try:
        link, _ = connect(charge.credentials, charge.timeout_s)
        for job in jobs.split():
            cancel(link, int(job))
        link.close()
    except QslurmError as error:
        log.warning("cannot cancel jobs %s at Quantum Inspire: %s", jobs, error)


def cancel(link: PlatformLink, job_id: int) -> bool:
    """Cancel a job that has not begun; one that has can't be cancelled, and runs to its end.

    The answer is whether it will not run. AwayError or RequestRefusedError if that can't be found out.
    """
    from compute_api_client import Job, JobPatch, JobStatus

    job: Job = link.ask(Job, "JobsApi", "read_job_jobs_id_get", job_id)
    if job.status == JobStatus.PLANNED:
        patch = JobPatch(status=JobStatus.CANCELLED, message=_WHY)
        try:
            job = link.ask(Job, "JobsApi", "update_job_status_jobs_id_patch", job_id, patch)
        except (AwayError, RequestRefusedError):
            job = link.ask(Job, "JobsApi", "read_job_jobs_id_get", job_id)
    return bool(job.status == JobStatus.CANCELLED)
