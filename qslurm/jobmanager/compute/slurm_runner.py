"""Runs the Compute API's jobs on C2: they are submitted to its Slurm with the center's own token.

So the partition's state, the queue, accounting, limits and the prolog hold for them as for all others. What comes of
them is read from the dispatcher's store, and before they have started, from Slurm.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from qslurm.c2.config import C2Config
from qslurm.dispatcher.messages import BackendStatus
from qslurm.dispatcher.tasks.states import ExecutionState, TaskState
from qslurm.errors import DuplicateError, UncertainError, UnknownJobError
from qslurm.jobmanager.compute.runner import Caller, JobStatus, Measured, Progress
from qslurm.jobmanager.logs import read_log
from qslurm.payload.spec import JobSpec
from qslurm.slurmrest.client import SlurmrestClient
from qslurm.store.reader import Reader
from qslurm.store.records import TaskRecord

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
"""slurmrestd gives up on its slurmctld after 10 s; less than that turns answers into doubts."""
_EXECUTIONS = 1_000_000
"""Results are numbered by their task and their place in it."""


class SlurmRunner:
    """C2's own Slurm and store; `backends` asks the dispatcher."""

    def __init__(self, config: C2Config, backends: Callable[[], list[BackendStatus]]) -> None:
        self.backends = backends
        self._config = config
        self._reader = Reader(config.dispatcher.store)
        self._version: str | None = None

    def begin(self, caller: Caller, spec: JobSpec) -> int:
        """Submit a job with the center's token; its number is Slurm's."""
        from qslurm.payload.render import render
        from qslurm.payload.validate import validate

        payload = render(spec)
        validate(payload)
        with self._slurm(caller) as slurm:
            try:
                return slurm.submit(payload).job_id
            except (DuplicateError, UncertainError):
                found = slurm.find_by_key(spec.key)
                if found is None:
                    raise
                return found.job_id

    def progress(self, caller: Caller, run: int) -> Progress:
        """By the dispatcher's store once the job has started, by Slurm before that."""
        task = self._reader.task(caller.center, run)
        if task is not None and task.state != TaskState.WITHDRAWN:
            over = STATUS[task.state] not in {"planned", "running"}
            return Progress(
                STATUS[task.state], task.reason, (task.finished_at or time.time()) if over else None
            )
        with self._slurm(caller) as slurm:
            try:
                job = slurm.job(run)
            except UnknownJobError:
                return Progress("failed", f"Slurm has no job {run} any more.", time.time())
        if not job.is_final:
            return Progress("planned")
        status: JobStatus = "cancelled" if job.outcome == "cancelled" else "failed"
        return Progress(status, str(job.why), float(job.end_time or time.time()))

    def measured(self, caller: Caller, run: int) -> list[Measured]:
        """The executions that gave a result."""
        task = self._reader.task(caller.center, run)
        if task is None:
            return []
        at = task.finished_at or task.started_at or task.admitted_at
        return [
            Measured(
                number=task.id * _EXECUTIONS + one.seq,
                at=at,
                counts=one.counts,
                raw_data=one.raw_data,
                shots_requested=one.shots_requested,
                shots_done=one.shots_done,
                seconds=one.seconds,
            )
            for one in self._reader.executions(task)
            if one.state == ExecutionState.DONE
        ]

    def final_result(self, caller: Caller, run: int) -> dict[str, Any] | None:
        """What a hybrid job's `finalize` gave."""
        task: TaskRecord | None = self._reader.task(caller.center, run)
        return None if task is None else task.final_result

    def cancel(self, caller: Caller, run: int) -> None:
        """Cancel it in Slurm; what has started is ended by that, too."""
        with self._slurm(caller) as slurm:
            slurm.cancel(run)

    def log(self, caller: Caller, run: int) -> list[str]:
        """The job's output, its first MiB."""
        user = self._config.slurm.user_prefix + caller.center
        try:
            data, _ = read_log(self._config.jobmanager.logs, user, run, 0)
        except UnknownJobError:
            return []
        return data.decode(errors="replace").splitlines()

    def _slurm(self, caller: Caller) -> SlurmrestClient:
        return SlurmrestClient(
            self._config.jobmanager.slurmrestd,
            self._config.slurm.user_prefix + caller.center,
            caller.token,
            timeout_s=_TIMEOUT_S,
            known_version=self._version,
            on_version=self._remember,
        )

    def _remember(self, version: str) -> None:
        self._version = version
