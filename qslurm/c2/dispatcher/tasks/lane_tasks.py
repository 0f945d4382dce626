"""The dispatcher's tasks for lanes (see qslurm.runtimes.lanes.lane_protocols)."""

from __future__ import annotations

from collections.abc import Mapping

from qslurm.c2.config.dispatcher_section import BackendConfig
from qslurm.c2.dispatcher.tasks import quota
from qslurm.c2.dispatcher.tasks.task_registry import TaskRegistry
from qslurm.c2.store.task_states import TaskState, is_open
from qslurm.errors import QslurmError
from qslurm.protocol.messages import Executed, LeasedTask
from qslurm.runtimes.lanes.logbook import Busy


class RegisteredTasks:
    """The tasks of a task registry."""

    def __init__(self, registry: TaskRegistry) -> None:
        self._registry = registry
        self.record = registry.record

    @property
    def backends(self) -> Mapping[str, BackendConfig]:
        """The backends, by name."""
        return self._registry.backends

    def log_fields(self, task: int) -> dict[str, str | int]:
        """Fields of a log line about a task."""
        known = self._registry.tasks.get(task)
        return {} if known is None else known.names()

    def may_use_lane(self, task: int) -> bool:
        """Whether it is a hybrid job's and has no queued executions."""
        known = self._registry.tasks.get(task)
        return known is not None and known.job.kind == "hybrid" and not known.executions

    def is_open(self, task: int) -> bool:
        """Whether it has not ended."""
        known = self._registry.tasks.get(task)
        return known is not None and is_open(known.state)

    def may_continue(self, task: int) -> bool:
        """Whether it runs, has QPU-seconds left, and no reservation excludes it."""
        known = self._registry.tasks.get(task)
        if known is None or known.state is not TaskState.RUNNING:
            return False
        queue = self._registry.queues[known.job.backend]
        admitted = queue.admits(known.job.job_id, known.job.center, self._registry.clock())
        return admitted and quota.left_s(self._registry, known) > 0

    def has_waiting(self, backend: str) -> bool:
        """Whether a backend's queue has waiting executions."""
        return len(self._registry.queues[backend]) > 0

    def lease_member(self, task: int) -> LeasedTask:
        """The data that decides about its turns in a lease."""
        job, now = self._registry.tasks[task].job, self._registry.timer()
        queue = self._registry.queues[job.backend]
        weight = queue.shares.weight(job.center)
        used = queue.shares.used(job.center, now) / weight
        return LeasedTask(task, job.center, queue.coupling(job.job_id), used, weight)

    def left_s(self, task: int) -> float:
        """The QPU-seconds that it may still use."""
        return quota.left_s(self._registry, self._registry.tasks[task])

    def used_up(self, task: int) -> str:
        """Why a task without QPU-seconds ends, as the beginning of a sentence."""
        return quota.reason(self._registry, self._registry.tasks[task])

    @property
    def can_store(self) -> bool:
        """Whether the store can be written."""
        return not self._registry.store_error

    @property
    def all_stored(self) -> bool:
        """Whether all changes are stored."""
        return not self._registry.store_error and not self._registry.changes

    def count_lease(self, backend: str) -> None:
        """Count a lease of a backend."""
        self._registry.counters.add("leases", backend)

    def record_failure(self, task: int, busy: Busy, why: str) -> None:
        """Record the failure of an execution by lane."""
        if task not in self._registry.tasks:
            return
        used_up = busy.seconds >= self.left_s(task)
        failed = Executed(
            seq=busy.seq, shots_requested=0, shots_done=0, counts={}, seconds=busy.seconds,
            error=f"{why}.", kind=quota.KIND if used_up else "job_failed",
        )  # fmt: skip
        self._registry.record(task, busy.circuit_sha256, failed)

    def record_lost(self, task: int, seq: int) -> None:
        """Note that an execution by lane was lost without an outcome."""
        known = self._registry.tasks.get(task)
        if known is not None:
            known.lost.add(seq)

    def store_now(self) -> None:
        """Store all changes now; QslurmError if that fails."""
        store_error = self._registry.store.commit(self._registry.changes, sync=True)
        if store_error:
            raise QslurmError(
                f"Cannot store the executions found in logbooks: {store_error}.",
                hint="Free disk space, then start the dispatcher again.",
            )
        self._registry.stored()
        self._registry.settled.clear()
