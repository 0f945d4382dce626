"""Leases: hybrid tasks share a quantum runtime over lanes, without the queue, until another task waits for it.

The dispatcher sends lanes to job steps, lends the runtime to the tasks that have one, reads the runtime's
logbook meanwhile, and takes the runtime back between two circuits. Each execution is in the logbook before the
client gets its result, so the end of any of the three processes loses nothing. While a runtime is lent, it
serves the tasks that share it in the order of the backend's policy.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

from qslurm.protocol.messages import Execute, Lease, LeaseOver
from qslurm.runtimes.lanes.lane_protocols import LaneRuntime, LaneRuntimes, LaneStatus, LaneTasks, SendLane
from qslurm.runtimes.lanes.lane_service import fits_lane
from qslurm.runtimes.lanes.lease import SLICE_S, LentRuntime, is_due, may_share
from qslurm.runtimes.lanes.logbook import MAX_MEMBERS
from qslurm.runtimes.lanes.shared_memory import OwnedLane, lanes_supported
from qslurm.system.event_log import EventLog
from qslurm.wire.connection import Connection

log = EventLog(__name__)

QUEUE_ONLY_S = 0.1
"""A backend gives no lanes for this long after it has served a task that cannot have one: then all tasks queue."""

STOP_LIMIT_S = 10.0
"""An idle runtime returns its lease at once; one that takes this long is broken."""

_CANDIDATE_LIMIT = 1000  # size at which ended tasks are removed
_READ_S = 0.1  # interval of reading a logbook
_WATCH_S = 0.001  # the same while others wait for the lease to end


class Leases:
    """All lanes and leases of a dispatcher. Times are monotonic seconds."""

    def __init__(self, tasks: LaneTasks, runtimes: LaneRuntimes, send_lane: SendLane) -> None:
        self._tasks = tasks
        self._runtimes = runtimes
        self._send_lane = send_lane
        self._possible = lanes_supported()
        self._lent: dict[int, LentRuntime] = {}  # by runtime number
        self._lane_candidates: dict[int, Connection] = {}  # tasks whose last circuit would have fitted a lane
        self._candidate_limit = _CANDIDATE_LIMIT
        self._recently_queued: dict[
            str, dict[int, float]
        ] = {}  # backend -> tasks without a lane -> when they were served

    # --- lanes ---------------------------------------------------------------------------------------

    def may_queue(self, message: Execute, client: Connection | None) -> bool:
        """Whether a task's circuit may be queued now; the request also shows whether a lane would help the task.

        False while the same circuit may be executing by lane: `lease_over` or `runtime_ended` returns the task
        when that is settled.
        """
        if any(message.task in lent.members for lent in self._lent.values()):
            self.stop(message.task)
            return False
        self._close_lane_of(message.task)
        if client is not None and message.wait and fits_lane(message):
            self._lane_candidates[message.task] = client
            if len(self._lane_candidates) > self._candidate_limit:
                self._lane_candidates = {
                    task: one for task, one in self._lane_candidates.items() if self._tasks.is_open(task)
                }
                self._candidate_limit = _CANDIDATE_LIMIT + 2 * len(self._lane_candidates)
        else:
            self._lane_candidates.pop(message.task, None)
        return True

    def note_served(self, task_id: int, runtime: LaneRuntime, now: float) -> None:
        """A runtime has executed a circuit from the queue: give its task a lane, or give no lanes for a while.

        Tasks in the queue and tasks with lanes compete under no policy, so at any time either all of them have
        lanes, or none.
        """
        backend = self._tasks.backends[runtime.backend]
        recent = self._recently_queued.setdefault(backend.name, {})
        for one, when in list(recent.items()):
            if now - when >= QUEUE_ONLY_S:
                del recent[one]
        fits = self._may_get_lane(task_id, runtime)
        alone = not recent.keys() - {task_id}
        if fits and alone and self._give_lane(task_id, runtime):
            return
        if not fits or not may_share(backend) or alone:
            recent[task_id] = now
        for lent in self._lent_at(backend.name):
            if not lent.members:
                self._close_lanes(lent)

    def status(self) -> Iterator[LaneStatus]:
        """Every task that shares a runtime now, those of the longest lease first."""
        for lent in sorted((one for one in self._lent.values() if one.members), key=lambda one: one.since):
            idle_s, until = lent.runtime.lanes.logbook.idle_s(), self._until(lent)
            for task in lent.members:
                yield LaneStatus(task, lent.since, idle_s, until)

    def in_use(self, backend: str) -> bool:
        """Whether a backend executes by lane."""
        return any(lent.members and lent.runtime.lanes.in_use for lent in self._lent_at(backend))

    def _until(self, lent: LentRuntime) -> float | None:
        """When a lease ends at the latest; None while no other task waits."""
        if lent.stop_asked is not None:
            return lent.stop_asked
        backend = self._tasks.backends[lent.runtime.backend]
        if not self._tasks.has_waiting(backend.name):
            return None
        return lent.since + (backend.session_max_s if backend.session_idle_s > 0 else SLICE_S)

    def _close_lane_of(self, task: int) -> None:
        """Close a task's lane, if it has one that no runtime serves."""
        for lent in self._lent.values():
            lane = lent.lanes.pop(task, None)
            if lane is not None:
                _close_lane(lane)

    # --- leases --------------------------------------------------------------------------------------

    def lend(self, runtime: LaneRuntime, now: float) -> None:
        """Lend a runtime that has nothing to do in the queue to the tasks that have lanes to it."""
        lent = self._lent.get(runtime.number)
        if lent is None or not lent.lanes or not self._tasks.all_stored:
            return  # executions in the logbook may not be stored yet
        runtime.lanes.logbook.renew()
        backend = self._tasks.backends[runtime.backend]
        lease = Lease(
            members=[self._tasks.lease_member(task) for task in lent.lanes],
            backend=backend.name,
            max_shots=backend.max_shots,
            policy=backend.policy,
            ageing_s=backend.ageing_s,
        )
        descriptors = [number for lane in lent.lanes.values() for number in lane.for_runtime]
        self._runtimes.lend(runtime.number, lease, descriptors)
        self._tasks.count_lease(backend.name)
        lent.members, lent.since, lent.stop_asked = tuple(lent.lanes), now, None

    def read(self) -> None:
        """Record the new executions in the logbooks."""
        for lent in self._lent.values():
            self._read_one(lent)

    def check(self, now: float) -> None:
        """End leases that are due, and kill runtimes that take too long or work for an ended task."""
        for lent in self._lent.values():
            if lent.members:
                self._withdraw_ended(lent)
                self._kill_overdue(lent, now)
                due = is_due(
                    now - lent.since,
                    lent.runtime.lanes.logbook.idle_s(),
                    backend=self._tasks.backends[lent.runtime.backend],
                    others_wait=self._tasks.has_waiting(lent.runtime.backend),
                )
                if due:
                    self._stop(lent)
            elif lent.lanes:
                self._close_ended_lanes(lent)

    def stop(self, task: int) -> None:
        """Ask for the lease back that a task shares; `lease_over` or `runtime_ended` follows."""
        for lent in self._lent.values():
            if task in lent.members:
                self._stop(lent)

    def lease_over(self, message: LeaseOver) -> tuple[int, ...]:
        """A runtime has returned its lease: the tasks that shared it."""
        lent = self._lent.get(message.runtime)
        if lent is None:
            return ()
        busy = lent.runtime.lanes.logbook.busy()
        members = self._finish(lent)
        if busy is not None:  # returned after it had begun
            self._tasks.record_lost(busy.task, busy.seq)
        if message.kept:
            self._close_ended_lanes(lent)
        else:
            self._close_lanes(lent)
        return members

    def runtime_ended(self, runtime: LaneRuntime, why: str, *, fail: bool) -> tuple[int, ...]:
        """A runtime has ended; with `fail` its current execution has failed. Returns the tasks of its lease."""
        lent = self._lent.pop(runtime.number, None)
        if lent is None:
            return ()
        busy = runtime.lanes.logbook.busy() if lent.members else None
        members = self._finish(lent)
        self._close_lanes(lent)
        if busy is None or busy.task not in members:
            return members
        names, again = self._tasks.log_fields(busy.task), not fail
        if not names:  # the task has ended
            return members
        log.warning("execution lost", **names, seq=busy.seq, runtime=runtime.number, again=again, why=why)
        if fail:
            self._tasks.record_failure(busy.task, busy, why)
        else:
            self._tasks.record_lost(busy.task, busy.seq)
        return members

    def next_event(self, now: float) -> float:
        """When `read` or `check` has something to do next."""
        lent = [lent.runtime.backend for lent in self._lent.values() if lent.members]
        if not lent:
            return float("inf")
        waited_for = any(self._tasks.has_waiting(backend) for backend in lent)
        return now + (_WATCH_S if waited_for else _READ_S)

    def close(self) -> None:
        """The runtimes have ended."""
        for lent in self._lent.values():
            self._finish(lent)
            self._close_lanes(lent)

    # --- conditions ----------------------------------------------------------------------------------

    def _may_get_lane(self, task: int, runtime: LaneRuntime) -> bool:
        """Whether a task can have a lane to a runtime, as far as it and those who have lanes are concerned."""
        if not self._tasks.may_use_lane(task):
            return False
        if not self._possible or not self._tasks.can_store or not runtime.lanes.may_be_lent:
            return False
        backend = self._tasks.backends[runtime.backend]
        neighbours = sum(len(lent.lanes) for lent in self._lent_at(backend.name))
        return neighbours < (MAX_MEMBERS if may_share(backend) else 1) and self._may_continue(task)

    def _may_continue(self, task: int) -> bool:
        """Whether the task may, and its client is there."""
        client = self._lane_candidates.get(task)
        return client is not None and not client.is_closed and self._tasks.may_continue(task)

    def _give_lane(self, task_id: int, runtime: LaneRuntime) -> bool:
        try:
            lane = OwnedLane()
        except OSError as error:
            log.warning("cannot create a lane", **self._tasks.log_fields(task_id), why=error.strerror)
            return False
        if not self._send_lane(self._lane_candidates[task_id], lane.for_client):
            lane.close()
            return False
        self._lent.setdefault(runtime.number, LentRuntime(runtime)).lanes[task_id] = lane
        log.debug("lane assigned", **self._tasks.log_fields(task_id), runtime=runtime.number)
        return True

    # --- ending --------------------------------------------------------------------------------------

    def _lent_at(self, backend: str) -> list[LentRuntime]:
        return [lent for lent in self._lent.values() if lent.runtime.backend == backend]

    def _withdraw_ended(self, lent: LentRuntime) -> None:
        """Serve members no more that may not continue."""
        for number, task in enumerate(lent.members):
            if not lent.runtime.lanes.logbook.withdrawn(number) and not self._may_continue(task):
                lent.runtime.lanes.logbook.withdraw(number)
                lent.lanes[task].wake_runtime()

    def _kill_overdue(self, lent: LentRuntime, now: float) -> None:
        runtime = lent.runtime
        busy = runtime.lanes.logbook.busy()
        if busy is None:
            if lent.stop_asked is not None and now - lent.stop_asked > STOP_LIMIT_S:
                self._runtimes.kill(runtime.number, "The quantum runtime did not return its lease")
            return
        if not self._tasks.is_open(busy.task):
            self._runtimes.kill(runtime.number, "The execution was withdrawn")
        elif busy.seconds > self._runtimes.limit_s:
            self._runtimes.kill(runtime.number, self._runtimes.time_limit_reason)
        elif busy.seconds > self._tasks.left_s(busy.task):
            self._runtimes.kill(runtime.number, self._tasks.used_up(busy.task))

    def _stop(self, lent: LentRuntime) -> None:
        if lent.stop_asked is None:
            lent.stop_asked = time.monotonic()
            lent.runtime.lanes.logbook.stop()
            next(iter(lent.lanes.values())).wake_runtime()

    def _finish(self, lent: LentRuntime) -> tuple[int, ...]:
        """The runtime serves the lease no more."""
        self._read_one(lent)
        members, lent.members = lent.members, ()
        return members

    def _close_ended_lanes(self, lent: LentRuntime) -> None:
        """Close the lanes of tasks that may not continue, or whose runtime is not ready."""
        for task in list(lent.lanes):
            if not lent.runtime.health.ready or not self._may_continue(task):
                _close_lane(lent.lanes.pop(task))

    def _close_lanes(self, lent: LentRuntime) -> None:
        for lane in lent.lanes.values():
            _close_lane(lane)
        lent.lanes.clear()

    def _read_one(self, lent: LentRuntime) -> None:
        if lent.members:
            for record in lent.runtime.lanes.logbook.read():
                if record.task in lent.members:
                    self._tasks.record(record.task, record.circuit_sha256, record.executed)


def _close_lane(lane: OwnedLane) -> None:
    lane.mark_closed()
    lane.close()
