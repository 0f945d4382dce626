"""Leases: hybrid tasks have a quantum runtime for themselves, over lanes, until somebody else waits for it.

The dispatcher hands out lanes, lends the runtime to those who have one, reads along in the runtime's logbook, and takes
it back between two circuits. What was executed stands in the logbook before the client hears of it, so nothing is lost
with any of the three. While a runtime is lent, it gives turns to those who share it by the backend's own policy.
"""

from __future__ import annotations

import time

from qslurm.c2.dispatcher.listeners.lane_listener import LaneListener
from qslurm.c2.dispatcher.pool.lease import SLICE_S, Table, is_due, may_share
from qslurm.c2.dispatcher.tasks import quota
from qslurm.c2.dispatcher.tasks.task import Task
from qslurm.c2.dispatcher.tasks.task_registry import TaskRegistry
from qslurm.c2.store.task_states import TaskState, is_open
from qslurm.protocol.messages import Execute, Executed, Lease, LeaseOver, Seat
from qslurm.runtimes.lanes.logbook import SEATS
from qslurm.runtimes.lanes.service import fits_lane
from qslurm.runtimes.lanes.shared_memory import OwnedLane, lanes_work_here
from qslurm.runtimes.quantum.pool import RuntimePool
from qslurm.runtimes.quantum.pool_process import Runtime
from qslurm.system.event_log import EventLog

log = EventLog(__name__)

CROWD_S = 0.1
"""There are no lanes at a backend for so long after it has served somebody who could have none: then all queue."""

STOP_LIMIT_S = 10.0
"""A runtime that executes nothing gives its lease back at once; one that takes so long does not work any more."""

_READ_S = 0.1  # between two looks into a logbook that nothing else asks for
_WATCH_S = 0.001  # the same while others wait for the lease to end


class Leases:
    """All lanes and leases of a dispatcher. Times are monotonic seconds."""

    def __init__(self, registry: TaskRegistry, pool: RuntimePool, door: LaneListener) -> None:
        self._registry = registry
        self._pool = pool
        self._door = door
        self._possible = lanes_work_here()
        self._tables: dict[int, Table] = {}  # by the number of their runtime
        self._crowd: dict[str, dict[int, float]] = {}  # backend: tasks without a lane: when they were served

    # --- lanes ---------------------------------------------------------------------------------------

    def asked(self, message: Execute) -> None:
        """A hybrid task has asked for a circuit here: by that it shows whether a lane would be of use to it."""
        task = self._registry.tasks.get(message.task)
        if task is not None:
            task.wants_lane = message.wait and fits_lane(message)

    def served(self, task_id: int, runtime: Runtime, now: float) -> None:
        """A runtime has executed something from the queue: its task gets a lane, or else the others none for a while.

        Who queues and who has a lane compete by no policy; so either all who ask at this time have lanes, or none.
        """
        backend = self._registry.backends[runtime.backend]
        crowd = self._crowd.setdefault(backend.name, {})
        for one, when in list(crowd.items()):
            if now - when >= CROWD_S:
                del crowd[one]
        fits = self._fits(self._registry.tasks.get(task_id), runtime)
        alone = not crowd.keys() - {task_id}
        if fits and alone and self._hand_out(task_id, runtime):
            return
        if not fits or not may_share(backend) or alone:
            crowd[task_id] = now
        for table in self._at(backend.name):
            if not table.seats:
                self._clear(table)

    def holds(self, task: int) -> bool:
        """Whether a task has a lane that a runtime serves: what it asks for may just be executing."""
        return any(task in table.seats for table in self._tables.values())

    def all(self) -> list[Table]:
        """Every runtime that is lent, the one that is longest lent first."""
        return sorted((one for one in self._tables.values() if one.seats), key=lambda one: one.since)

    def until(self, table: Table) -> float | None:
        """When a lease ends at the latest, if nothing changes (monotonic); None while nobody else waits."""
        if table.stop_asked is not None:
            return table.stop_asked
        if not len(self._registry.queues[table.runtime.backend]):
            return None
        backend = self._registry.backends[table.runtime.backend]
        return table.since + (backend.session_max_s if backend.session_idle_s > 0 else SLICE_S)

    def drop(self, task: int) -> None:
        """Take a task's lane away, if it has one; no runtime serves it."""
        for table in self._tables.values():
            lane = table.lanes.pop(task, None)
            if lane is not None:
                _end(lane)

    # --- leases --------------------------------------------------------------------------------------

    def lend(self, runtime: Runtime, now: float) -> None:
        """Lend an idle runtime, for which nothing in the queue may start, to those who have lanes to it."""
        table = self._tables.get(runtime.number)
        if table is None or not table.lanes or self._registry.trouble:
            return
        if self._registry.changes:
            return  # what stands in the logbook is not stored yet
        runtime.logbook.renew()
        backend = self._registry.backends[runtime.backend]
        lease = Lease(
            seats=[self._seat(task, now) for task in table.lanes],
            backend=backend.name,
            max_shots=backend.max_shots,
            policy=backend.policy,
            ageing_s=backend.ageing_s,
        )
        descriptors = [number for lane in table.lanes.values() for number in lane.for_runtime]
        self._pool.lend(runtime, lease, descriptors)
        self._registry.counters.add("leases", backend.name)
        table.seats, table.since, table.stop_asked = tuple(table.lanes), now, None

    def read(self) -> None:
        """Take over what stands in the logbooks."""
        for table in self._tables.values():
            self._read_one(table)

    def look(self, now: float) -> None:
        """Take back what is due, and end what takes too long or works for a task that is over."""
        for table in self._tables.values():
            if table.seats:
                self._withdraw(table)
                self._kill_if_wrong(table, now)
                due = is_due(
                    now - table.since,
                    table.runtime.logbook.idle_s(),
                    backend=self._registry.backends[table.runtime.backend],
                    others_wait=len(self._registry.queues[table.runtime.backend]) > 0,
                )
                if due:
                    self._stop(table)
            elif table.lanes:
                self._tidy(table)

    def stop(self, task: int) -> None:
        """Ask for the lease back in which a task has a seat; `over` or `lost` follows."""
        for table in self._tables.values():
            if task in table.seats:
                self._stop(table)

    def over(self, message: LeaseOver) -> tuple[int, ...]:
        """A runtime has given its lease back: the tasks that had it."""
        table = self._tables.get(message.runtime)
        if table is None:
            return ()
        busy = table.runtime.logbook.busy()
        seats = self._finish(table)
        task = None if busy is None else self._registry.tasks.get(busy.task)
        if busy is not None and task is not None:  # given back when it had begun
            task.lost_by_lane.add(busy.seq)
        if message.kept:
            self._tidy(table)
        else:
            self._clear(table)
        return seats

    def lost(self, runtime: Runtime, why: str, *, fail: bool) -> tuple[int, ...]:
        """A runtime has died; with `fail` what it was executing has failed. The tasks that had it on lease."""
        table = self._tables.pop(runtime.number, None)
        if table is None:
            return ()
        busy = runtime.logbook.busy() if table.seats else None
        seats = self._finish(table)
        self._clear(table)
        task = None if busy is None else self._registry.tasks.get(busy.task)
        if busy is None or task is None or task.id not in seats:
            return seats
        names, again = task.names(), not fail
        log.warning(
            "execution lost by lane", **names, seq=busy.seq, runtime=runtime.number, again=again, why=why
        )
        if fail:
            used_up = busy.seconds >= quota.left_s(self._registry, task)
            failed = Executed(
                seq=busy.seq, shots_requested=0, shots_done=0, counts={}, seconds=busy.seconds,
                error=f"{why}.", kind=quota.KIND if used_up else "job_failed",
            )  # fmt: skip
            self._registry.record(task.id, busy.circuit_sha256, failed)
        else:
            task.lost_by_lane.add(busy.seq)
        return seats

    def next_event(self, now: float) -> float:
        """When `read` or `look` has something to do next."""
        lent = [table.runtime.backend for table in self._tables.values() if table.seats]
        if not lent:
            return float("inf")
        waited_for = any(len(self._registry.queues[backend]) for backend in lent)
        return now + (_WATCH_S if waited_for else _READ_S)

    def close(self) -> None:
        """The runtimes have ended."""
        for table in self._tables.values():
            self._finish(table)
            self._clear(table)

    # --- who may have one ----------------------------------------------------------------------------

    def _fits(self, task: Task | None, runtime: Runtime) -> bool:
        """Whether a task can have a lane to a runtime, as far as it and those who have lanes are concerned."""
        if task is None or task.job.kind != "hybrid" or task.executions or not task.wants_lane:
            return False
        if not self._possible or self._registry.trouble or not self._pool.may_be_lent(runtime):
            return False
        backend = self._registry.backends[runtime.backend]
        neighbours = sum(len(table.lanes) for table in self._at(backend.name))
        return neighbours < (SEATS if may_share(backend) else 1) and self._may_go_on(task.id)

    def _may_go_on(self, task_id: int) -> bool:
        """Whether the task runs and is at the door, with something left to use, and no reservation against it."""
        task = self._registry.tasks.get(task_id)
        if task is None or task.state is not TaskState.RUNNING or not self._door.waits(task_id):
            return False
        queue = self._registry.queues[task.job.backend]
        admitted = queue.admits(task.job.job_id, task.job.center, self._registry.clock())
        return admitted and quota.left_s(self._registry, task) > 0

    def _hand_out(self, task_id: int, runtime: Runtime) -> bool:
        try:
            lane = OwnedLane()
        except OSError as error:
            log.warning("no lane can be made", **self._names(task_id), why=error.strerror)
            return False
        if not self._door.hand_out(task_id, lane.for_client):
            lane.close()
            return False
        self._tables.setdefault(runtime.number, Table(runtime)).lanes[task_id] = lane
        log.debug("job has a lane", **self._names(task_id), runtime=runtime.number)
        return True

    def _names(self, task_id: int) -> dict[str, str | int]:
        task = self._registry.tasks.get(task_id)
        return {} if task is None else task.names()

    def _seat(self, task_id: int, now: float) -> Seat:
        job = self._registry.tasks[task_id].job
        queue = self._registry.queues[job.backend]
        weight = queue.shares.weight(job.center)
        used = queue.shares.used(job.center, now) / weight
        return Seat(task_id, job.center, queue.coupling(job.job_id), used, weight)

    # --- how one ends --------------------------------------------------------------------------------

    def _at(self, backend: str) -> list[Table]:
        return [table for table in self._tables.values() if table.runtime.backend == backend]

    def _withdraw(self, table: Table) -> None:
        """Let those execute nothing more who may not go on."""
        for number, task in enumerate(table.seats):
            if not table.runtime.logbook.withdrawn(number) and not self._may_go_on(task):
                table.runtime.logbook.withdraw(number)
                table.lanes[task].nudge()

    def _kill_if_wrong(self, table: Table, now: float) -> None:
        runtime = table.runtime
        busy = runtime.logbook.busy()
        if busy is None:
            if table.stop_asked is not None and now - table.stop_asked > STOP_LIMIT_S:
                self._pool.kill(runtime.number, "It did not give its lease back")
            return
        task = self._registry.tasks.get(busy.task)
        if task is None or not is_open(task.state):
            self._pool.kill(runtime.number, "Its work was withdrawn")
        elif busy.seconds > self._pool.limit_s:
            self._pool.kill(runtime.number, self._pool.too_slow)
        elif busy.seconds > quota.left_s(self._registry, task):
            self._pool.kill(runtime.number, quota.reason(self._registry, task))

    def _stop(self, table: Table) -> None:
        if table.stop_asked is None:
            table.stop_asked = time.monotonic()
            table.runtime.logbook.stop()
            next(iter(table.lanes.values())).nudge()

    def _finish(self, table: Table) -> tuple[int, ...]:
        """The runtime serves the lease no more."""
        self._read_one(table)
        seats, table.seats = table.seats, ()
        return seats

    def _tidy(self, table: Table) -> None:
        """Take the lanes of those who may not go on; nobody keeps one whose runtime can't serve it."""
        for task in list(table.lanes):
            if not table.runtime.health.ready or not self._may_go_on(task):
                _end(table.lanes.pop(task))

    def _clear(self, table: Table) -> None:
        for lane in table.lanes.values():
            _end(lane)
        table.lanes.clear()

    def _read_one(self, table: Table) -> None:
        if table.seats:
            for record in table.runtime.logbook.read():
                if record.task in table.seats:
                    self._registry.record(record.task, record.circuit_sha256, record.executed)


def _end(lane: OwnedLane) -> None:
    lane.shut()
    lane.close()
