"""Two platforms, c2 and tuna, as commands see them."""

from __future__ import annotations

from types import SimpleNamespace

from qslurm.errors import UnknownJobError
from tests.unit.jobs import job_info

TWO = '[c2]\nurl = "http://c2"\n[platform.tuna]\nurl = "http://tuna"\n'


class Platform:
    """A platform of which some jobs are known, or that is away."""

    def __init__(self, *jobs, away=None):
        self.known = {job.job_id: job for job in jobs}
        self.away = away
        self.cancelled = []
        self.rows = []

    def __call__(self, config):
        if self.away:
            return SimpleNamespace(
                config=config,
                slurm=Away(self.away),
                job_manager=Away(self.away),
                has_job_manager=False,
                submissions_at_once=4,
                delay=lambda waited: 0.0,
                close=lambda: None,
            )
        slurm = SimpleNamespace(
            user="me",
            api_version="v0.0.39",
            jobs=lambda: list(self.known.values()),
            accounted=lambda since: list(self.known.values()),
            tasks=lambda job_id: [self._job(job_id)],
            cancel=lambda job_id, task: self._cancel(job_id),
            update=lambda job_id, fields: [],
        )
        results = SimpleNamespace(usage=lambda since, until: self.rows, jobs=list)
        return SimpleNamespace(
            config=config,
            prefix=config.prefix,
            slurm=slurm,
            job_manager=results,
            has_job_manager=False,
            submissions_at_once=4,
            delay=lambda waited: 0.0,
            close=lambda: None,
        )

    def _job(self, job_id):
        if job_id not in self.known:
            raise UnknownJobError(f"C2 has no job {job_id}.")
        return self.known[job_id]

    def _cancel(self, job_id):
        self.cancelled.append(self._job(job_id).job_id)
        return []


class Away:
    """Raises whatever is asked."""

    def __init__(self, error):
        self._error = error

    def __getattr__(self, name):
        raise self._error


def job(job_id, state="PENDING", **facts):
    return job_info(job_id=job_id, name=f"job{job_id}", state=state, user="me", **facts)
