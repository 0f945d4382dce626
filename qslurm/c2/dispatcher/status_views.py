"""The replies to GetStatus and GetMetrics.

Everybody sees the state of backends and the length of queues. A center's user sees its own jobs; root, the dispatcher's
user and trusted users see all jobs.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from typing import Literal

import msgspec

import qslurm
from qslurm.c2.dispatcher import reservation_requests
from qslurm.c2.dispatcher.backend_status import STATES, Backends
from qslurm.c2.dispatcher.pool.all_runtimes import AllRuntimes
from qslurm.c2.dispatcher.tasks.task import Task
from qslurm.c2.dispatcher.tasks.task_registry import TaskRegistry
from qslurm.c2.scheduling.policy import QueuedExecution
from qslurm.c2.scheduling.queue_positions import first, reason
from qslurm.c2.store.task_states import ExecutionState, is_open
from qslurm.errors import QslurmError
from qslurm.protocol.messages import (
    BackendStatus,
    GetStatus,
    HoldStatus,
    Metrics,
    Status,
    TaskStatus,
    WaitingStatus,
)
from qslurm.protocol.metrics import FAMILIES, LabeledValue
from qslurm.runtimes.lanes.leases import Leases

LONGEST_QUEUE = 500
"""Most listed executions of one backend: finding the position of each takes some 20 us of the main loop."""

LONGEST_OWN = 100
"""The same for users who see only their own jobs, since requests are not limited."""

NO_CREDENTIAL = "the request carries no credential"


@dataclass(frozen=True)
class Viewer:
    """Which jobs the sender of a request may see; `why` says why none."""

    scope: Literal["all", "own", "none"]
    uid: int = -1
    why: str = ""

    def sees(self, task: Task) -> bool:
        """Whether the viewer may see a job."""
        return self.scope == "all" or (self.scope == "own" and task.job.uid == self.uid)


def viewer_of(sender: int | QslurmError, trusted: frozenset[int]) -> Viewer:
    """The viewer that a verified credential stands for."""
    if isinstance(sender, QslurmError):
        return Viewer("none", why=sender.message)
    return Viewer("all" if sender in trusted else "own", sender)


class StatusViews:
    """Makes the replies."""

    def __init__(
        self, registry: TaskRegistry, all_runtimes: AllRuntimes, backends: Backends, leases: Leases
    ) -> None:
        self._registry = registry
        self._all_runtimes = all_runtimes
        self._backends = backends
        self._leases = leases

    def status(self, message: GetStatus, viewer: Viewer) -> Status:
        """The reply to GetStatus."""
        registry = self._registry
        self._backends.update(self._all_runtimes)
        shown = (
            [] if viewer.scope == "none" else [task for task in registry.tasks.values() if viewer.sees(task)]
        )
        own = {task.job.job_id for task in shown}
        queue, left = self._queue(
            shown, viewer, min(message.queue, LONGEST_QUEUE if viewer.scope == "all" else LONGEST_OWN)
        )
        holds = self._holds()
        return Status(
            version=qslurm.__version__,
            pid=os.getpid(),
            started=self._backends.started,
            ready=not registry.store_error,
            reason=f"Cannot store results: {registry.store_error}." if registry.store_error else "",
            backends=[self._with_holds(one, holds) for one in self._backends.all(self._all_runtimes)],
            tasks=[_task(task) for task in shown],
            reservations=[
                one if viewer.scope == "all" or one.job_id in own or not one.job_id
                else msgspec.structs.replace(one, job_id=0, reason="")
                for one in reservation_requests.listed(registry)
            ],
            scope=viewer.scope,
            scope_reason=viewer.why,
            open_jobs=len(registry.tasks),
            holds=[one for one in holds if viewer.scope == "all" or one.job_id in own],
            queue=queue,
            queue_left=left,
        )  # fmt: skip

    def metrics(self) -> Metrics:
        """The reply to GetMetrics."""
        registry = self._registry
        self._backends.update(self._all_runtimes)
        values = registry.counters.values() | {
            name: [] for name, one in FAMILIES.items() if one.kind == "gauge"
        }

        def gauge(name: str, value: float, *labels: str) -> None:
            values[name].append(LabeledValue(labels, float(value)))

        holds = Counter((hold.backend, hold.by) for hold in self._holds())
        for backend in self._backends.all(self._all_runtimes):
            name = backend.name
            gauge("queue_length", backend.queued, name)
            gauge("executing", backend.executing, name)
            gauge("backend_up", name not in registry.unavailable, name)
            gauge("backend_runtimes", backend.runtimes, name)
            for state in STATES:
                gauge("backend_state", backend.state == state, name, state)
            for by in ("session", "lane"):
                gauge("backend_holds", holds[name, by], name, by)
        jobs = Counter(
            (task.job.backend, task.job.center, task.job.kind, str(task.state))
            for task in registry.tasks.values()
            if is_open(task.state)
        )
        for labels, number in jobs.items():
            gauge("open_jobs", number, *labels)
        gauge("dispatcher_ready", not registry.store_error)
        gauge("dispatcher_start_time_seconds", self._backends.started)
        return Metrics(
            version=qslurm.__version__, pid=os.getpid(), values=values, spreads=registry.counters.spreads()
        )

    def _with_holds(self, backend: BackendStatus, holds: Iterable[HoldStatus]) -> BackendStatus:
        ways = Counter(hold.by for hold in holds if hold.backend == backend.name)
        return msgspec.structs.replace(backend, sessions=ways["session"], lanes=ways["lane"])

    def _holds(self) -> list[HoldStatus]:
        registry, now, at = self._registry, self._registry.timer(), self._registry.clock()

        def unix(when: float | None) -> float | None:
            return None if when is None else at - (now - when)

        found = []
        for name, queue in registry.queues.items():
            for hold, center, until in queue.sessions():
                found.append(
                    HoldStatus(
                        backend=name,
                        job_id=hold.job,
                        center=center,
                        by="session",
                        since=at - (now - hold.since),
                        idle_s=None if hold.idle_since is None else max(0.0, now - hold.idle_since),
                        until=unix(until),
                    )
                )
        for lane in self._leases.status():
            task = registry.tasks.get(lane.task)
            if task is not None:
                found.append(
                    HoldStatus(
                        backend=task.job.backend,
                        job_id=task.job.job_id,
                        center=task.job.center,
                        by="lane",
                        since=at - (now - lane.since),
                        idle_s=lane.idle_s or None,
                        until=unix(lane.until),
                    )
                )
        return found

    def _queue(
        self, shown: list[Task], viewer: Viewer, most: int
    ) -> tuple[list[WaitingStatus], dict[str, int]]:
        """The waiting executions of these jobs, by backend and position; and by backend how many are not listed."""
        registry, now, at = self._registry, self._registry.timer(), self._registry.clock()
        listed: list[WaitingStatus] = []
        unlisted: dict[str, int] = {}
        for name, queue in registry.queues.items():
            if viewer.scope == "all":
                total, chosen = len(queue), first(queue, most, now, at)
            else:
                total, chosen = self._own(name, shown, most)
            here = sorted(
                (self._waiting(name, one, now, at) for one in chosen),
                key=lambda one: (one.position, one.job_id, one.seq),
            )[:most]
            listed += here
            unlisted[name] = total - len(here)
        return listed, unlisted

    def _own(self, backend: str, shown: list[Task], most: int) -> tuple[int, list[QueuedExecution]]:
        numbers = sorted(
            execution.number
            for task in shown
            if task.job.backend == backend
            for execution in task.executions.values()
            if execution.state is ExecutionState.QUEUED
        )
        queue = self._registry.queues[backend]
        return len(numbers), [queue.waiting_order.numbered(number) for number in islice(numbers, most)]

    def _waiting(self, backend: str, waiting: QueuedExecution, now: float, at: float) -> WaitingStatus:
        registry = self._registry
        task = registry.tasks[waiting.task]
        words, position = reason(registry.queues[backend], backend, waiting, now, at)
        return WaitingStatus(
            backend=backend,
            position=position,
            job_id=waiting.job,
            restart=task.job.restart,
            center=waiting.center,
            seq=waiting.seq,
            shots=task.executions[waiting.seq].circuit.shots,
            since=at - (now - waiting.arrived),
            reason=registry.unavailable.get(backend, "") or words,
        )


def _task(task: Task) -> TaskStatus:
    states = [execution.state for execution in task.executions.values()]
    return TaskStatus(
        job_id=task.job.job_id,
        restart=task.job.restart,
        center=task.job.center,
        backend=task.job.backend,
        kind=task.job.kind,
        state=task.state,
        since=task.since,
        executions=len(task.ended),
        queued=states.count(ExecutionState.QUEUED),
        executing=states.count(ExecutionState.RUNNING),
        over=task.finished_at is not None,
    )
