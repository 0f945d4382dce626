"""Runs the Compute API's jobs on C2: submits them to its Slurm with the center's token.

So they are subject to the partition's state, the queue, accounting, limits and the prolog, like all other jobs. Their
progress is read from the dispatcher's store, and from Slurm before they start.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import msgspec

from qslurm.c2.config.file import C2Config
from qslurm.c2.jobmanager.compute_api.runner import ApiCaller, JobStatus, MeasuredCircuit, Progress
from qslurm.c2.jobmanager.logs import read_log
from qslurm.c2.store.reader import Reader
from qslurm.c2.store.task_states import TaskState
from qslurm.errors import DuplicateError, UncertainError, UnknownJobError
from qslurm.payload.spec import JobSpec
from qslurm.protocol.messages import BackendStatus
from qslurm.slurm.job_info import JobInfo
from qslurm.slurm.rest.client import SlurmrestClient
from qslurm.slurm.rest.endpoint import Endpoint
from qslurm.slurm.states import explain
from qslurm.tokens.secret import Secret

STATUS: dict[str, JobStatus] = {
    TaskState.ADMITTED: "planned",
    TaskState.RUNNING: "running",
    TaskState.FINISHED: "completed",
    TaskState.FAILED: "failed",
    TaskState.CANCELLED: "cancelled",
    TaskState.TIMED_OUT: "failed",
    TaskState.WITHDRAWN: "planned",
}

_TIMEOUT_S = 15.0
"""Longer than slurmrestd waits for slurmctld (10 s), so that its answer is not missed."""
_AT_ONCE = 1000
"""Jobs in one query of the store."""
_QUERIED_SINGLY = 4
"""Maximum pending jobs that Slurm is queried for one by one; for more, all are listed."""
_EXECUTIONS = 1_000_000
"""A result's id is its task's id times this, plus its number in the task."""


class SlurmRunner:
    """Runs jobs by C2's Slurm and reads its store; `backends` queries the dispatcher."""

    def __init__(self, config: C2Config, backends: Callable[[], list[BackendStatus]]) -> None:
        self.backends = backends
        self._config = config
        self._reader = Reader(config.dispatcher.store)
        self._version: str | None = None

    def begin(self, caller: ApiCaller, spec: JobSpec) -> int:
        """Submit a job with the center's token; returns Slurm's job id."""
        from qslurm.payload.build import payload_of

        payload = payload_of(spec)
        with self._slurm(caller) as slurm:
            try:
                return slurm.submit(payload).job_id
            except (DuplicateError, UncertainError):
                found = slurm.find_by_key(spec.key)
                if found is None:
                    raise
                return found.job_id

    def progress(self, caller: ApiCaller, runs: Sequence[int]) -> dict[int, Progress]:
        """The progress from the dispatcher's store, from Slurm for jobs that have not started."""
        found: dict[int, Progress] = {}
        for start in range(0, len(runs), _AT_ONCE):
            for task in self._reader.tasks_of(caller.center, runs[start : start + _AT_ONCE]):
                if task.state != TaskState.WITHDRAWN:
                    over = STATUS[task.state] not in {"planned", "running"}
                    ended = (task.finished_at or time.time()) if over else None
                    found[task.job_id] = Progress(STATUS[task.state], explain(task.reason), ended)
        waiting = [run for run in runs if run not in found]
        if waiting:
            with self._slurm(caller) as slurm:
                listed = {job.job_id: job for job in slurm.jobs()} if len(waiting) > _QUERIED_SINGLY else {}
                found |= {run: _in_slurm(slurm, run, listed.get(run)) for run in waiting}
        return found

    def results(self, caller: ApiCaller, run: int) -> tuple[int, int]:
        """The number of executions with a result, and the bytes of the largest."""
        task = self._reader.task(caller.center, run)
        return (0, 0) if task is None else (task.executions, self._reader.largest_result(task))

    def measured(self, caller: ApiCaller, run: int, first: int, most: int) -> list[MeasuredCircuit]:
        """The results of executions."""
        task = self._reader.task(caller.center, run)
        if task is None:
            return []
        at = task.finished_at or task.started_at or task.admitted_at
        return [
            MeasuredCircuit(
                number=task.id * _EXECUTIONS + one.seq,
                at=at,
                counts=one.counts,
                raw_data=one.raw_data,
                shots_requested=one.shots_requested,
                shots_done=one.shots_done,
                seconds=one.seconds,
            )
            for one in self._reader.results(task, first, most)
        ]

    def final_result(self, caller: ApiCaller, run: int) -> msgspec.Raw | None:
        """What a hybrid job's `finalize` returned."""
        task = self._reader.task(caller.center, run)
        return None if task is None else self._reader.final_result(task)

    def cancel(self, caller: ApiCaller, run: int) -> None:
        """Cancel a job in Slurm, whether or not it has started."""
        with self._slurm(caller) as slurm:
            slurm.cancel(run)

    def log(self, caller: ApiCaller, run: int) -> list[str]:
        """The first MiB of a job's output."""
        user = self._config.slurm.user_prefix + caller.center
        try:
            data, _ = read_log(self._config.jobmanager.logs, user, run, 0)
        except UnknownJobError:
            return []
        return data.decode(errors="replace").splitlines()

    def _slurm(self, caller: ApiCaller) -> SlurmrestClient:
        return SlurmrestClient(
            Endpoint(
                self._config.jobmanager.slurmrestd,
                Secret(caller.token),
                self._config.slurm.user_prefix + caller.center,
                timeout_s=_TIMEOUT_S,
            ),
            known_version=self._version,
            on_version=self._remember,
        )

    def _remember(self, version: str) -> None:
        self._version = version


def _in_slurm(slurm: SlurmrestClient, run: int, listed: JobInfo | None) -> Progress:
    """The progress of a job that has not started; `listed` is its entry in a list."""
    try:
        job = listed or slurm.job(run)
    except UnknownJobError:
        return Progress("failed", f"Slurm no longer knows job {run}.", time.time())
    if not job.is_final:
        return Progress("planned")
    status: JobStatus = "cancelled" if job.outcome == "cancelled" else "failed"
    return Progress(status, str(job.why), float(job.end_time or time.time()))
