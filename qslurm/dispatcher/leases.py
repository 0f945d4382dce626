"""Leases: a task has a quantum runtime for itself, over a lane, until somebody else waits for it or the task goes.

The dispatcher grants a lease, reads along in the runtime's logbook, and takes it back between two circuits. What
was executed stands in the logbook before the client hears of it, so nothing is lost with any of the three.
"""

from __future__ import annotations

import logging
import os
import time
from dataclasses import dataclass
from pathlib import Path

from qslurm.dispatcher import quota
from qslurm.dispatcher.config import BackendConfig
from qslurm.dispatcher.door import Door, close_all
from qslurm.dispatcher.ledger import Ledger
from qslurm.dispatcher.messages import Executed, Lease
from qslurm.dispatcher.pool import Pool, Runtime
from qslurm.dispatcher.states import TaskState, is_open
from qslurm.dispatcher.task import Task
from qslurm.errors import QslurmError
from qslurm.runtimes.lane import Lane, lanes_work_here, make_lane
from qslurm.runtimes.logbook import SUFFIX, Logbook, open_logbook

log = logging.getLogger(__name__)

SLICE_S = 0.05
"""A lease lasts at least so long while it is used, though others wait: changing hands costs a circuit's time."""

IDLE_S = 0.002
"""A lease that nobody uses for so long ends at once when others wait."""

STOP_LIMIT_S = 10.0
"""A runtime that executes nothing gives its lease back at once; one that takes so long does not work any more."""

_READ_S = 0.1  # between two looks into a logbook that nothing else asks for
_WATCH_S = 0.001  # the same while others wait for the lease to end


@dataclass
class Given:
    """A lease that has been given. `lane` is the dispatcher's own view, to shut it when its runtime has died."""

    task: int
    runtime: Runtime
    lane: Lane
    since: float
    stop_asked: float | None = None


def is_due(
    age_s: float, idle_s: float, *, backend: BackendConfig, others_wait: bool, may_go_on: bool
) -> bool:
    """Whether a lease must be taken back: its task is over or shut out by a reservation, or it is others' turn.

    Where jobs have sessions, a lease lasts as long as a session does.
    """
    if not may_go_on:
        return True
    if not others_wait:
        return False
    if backend.session_idle_s > 0:
        return age_s >= backend.session_max_s or idle_s >= backend.session_idle_s
    return age_s >= SLICE_S or idle_s >= IDLE_S


class Leases:
    """All leases of a dispatcher, by the number of their runtime. Times are monotonic seconds."""

    def __init__(self, ledger: Ledger, pool: Pool, door: Door) -> None:
        self._ledger = ledger
        self._pool = pool
        self._door = door
        self._possible = lanes_work_here()
        self._given: dict[int, Given] = {}
        self._coupled: dict[str, int] = {}  # backend: the task that executed there last

    def couple(self, task: int) -> None:
        """A hybrid task has asked for a circuit: it is the next to get a lease at its backend."""
        found = self._ledger.tasks.get(task)
        if found is not None:
            self._coupled[found.job.backend] = task

    def of_task(self, task: int) -> Given | None:
        """The lease that a task has."""
        return next((given for given in self._given.values() if given.task == task), None)

    def all(self) -> list[Given]:
        """Every lease, the oldest first."""
        return sorted(self._given.values(), key=lambda given: given.since)

    def until(self, given: Given) -> float | None:
        """When a lease ends at the latest, if nothing changes (monotonic); None while nobody else waits."""
        if given.stop_asked is not None:
            return given.stop_asked
        if not len(self._ledger.queues[given.runtime.backend]):
            return None
        backend = self._ledger.backends[given.runtime.backend]
        return given.since + (backend.session_max_s if backend.session_idle_s > 0 else SLICE_S)

    def grant(self, runtime: Runtime, now: float) -> bool:
        """Lend an idle runtime, for whose backend nothing waits, to the task that was there last, if it is ready."""
        task = self._ledger.tasks.get(self._coupled.get(runtime.backend, 0))
        if task is None or task.executions or task.state is not TaskState.RUNNING or self.of_task(task.id):
            return False
        if not self._possible or self._ledger.trouble or not self._pool.may_be_lent(runtime):
            return False
        if not self._door.waits(task.id) or not self._may_start(task):
            return False
        if not self._ledger.queues[runtime.backend].has_to_itself(task.job.job_id, now):
            return False  # a lane that changes hands at every turn is slower than none
        try:
            lane = make_lane()
            runtime.logbook.renew()
        except OSError as error:
            log.warning("no lane can be made: %s", error.strerror)
            return False
        if not self._door.hand_out(task.id, lane):
            close_all(lane)
            return False
        backend = self._ledger.backends[runtime.backend]
        self._pool.lend(runtime, Lease(task=task.id, backend=backend.name, max_shots=backend.max_shots), lane)
        self._ledger.meters.add("leases", backend.name)
        self._given[runtime.number] = Given(task.id, runtime, Lane("runtime", *lane), now)
        return True

    def read(self) -> None:
        """Take over what stands in the logbooks."""
        for given in self._given.values():
            self._read_one(given)

    def look(self, now: float) -> None:
        """Take back what is due, and end what takes too long or works for a task that is over."""
        for given in self._given.values():
            task = self._ledger.tasks.get(given.task)
            busy = given.runtime.logbook.busy()
            task_open = task is not None and is_open(task.state)
            if busy is not None and not task_open:
                self._pool.kill(given.runtime.number, "Its work was withdrawn")
            elif busy is not None and busy.seconds > self._pool.limit_s:
                self._pool.kill(given.runtime.number, self._pool.too_slow)
            elif busy is not None and task is not None and busy.seconds > quota.left_s(self._ledger, task):
                self._pool.kill(given.runtime.number, quota.reason(self._ledger, task))
            elif busy is None and given.stop_asked is not None and now - given.stop_asked > STOP_LIMIT_S:
                self._pool.kill(given.runtime.number, "It did not give its lease back")
            due = is_due(
                now - given.since,
                given.runtime.logbook.idle_s(),
                backend=self._ledger.backends[given.runtime.backend],
                others_wait=len(self._ledger.queues[given.runtime.backend]) > 0,
                may_go_on=task is not None and is_open(task.state) and self._may_start(task),
            )
            if due:
                self.stop(given)

    def stop(self, given: Given) -> None:
        """Ask for a lease back; `over` or `lost` follows."""
        if given.stop_asked is None:
            given.stop_asked = time.monotonic()
            given.runtime.logbook.stop()
            given.lane.nudge()

    def over(self, number: int) -> int | None:
        """A runtime has given its lease back: the task that had it."""
        given = self._given.get(number)
        if given is None:
            return None
        busy = given.runtime.logbook.busy()
        self._end(given)
        task = self._ledger.tasks.get(given.task)
        if busy is not None and task is not None:  # given back when it had begun
            task.lost_by_lane.add(busy.seq)
        return given.task

    def lost(self, runtime: Runtime, why: str, *, fail: bool) -> int | None:
        """A runtime has died; with `fail` what it was executing has failed. The task that had it on lease."""
        given = self._given.get(runtime.number)
        if given is None:
            return None
        busy = runtime.logbook.busy()
        self._end(given)
        task = self._ledger.tasks.get(given.task)
        if busy is None or task is None:
            return given.task
        if fail:
            used_up = busy.seconds >= quota.left_s(self._ledger, task)
            failed = Executed(
                seq=busy.seq, shots_requested=0, shots_done=0, counts={}, seconds=busy.seconds,
                error=f"{why}.", kind=quota.KIND if used_up else "job_failed",
            )  # fmt: skip
            self._ledger.record(given.task, busy.circuit_sha256, failed)
        else:
            task.lost_by_lane.add(busy.seq)
        return given.task

    def next_event(self, now: float) -> float:
        """When `read` or `look` has something to do next."""
        if not self._given:
            return float("inf")
        waited_for = any(len(self._ledger.queues[given.runtime.backend]) for given in self._given.values())
        return now + (_WATCH_S if waited_for else _READ_S)

    def close(self) -> None:
        """The runtimes have ended."""
        for given in list(self._given.values()):
            self._end(given)

    def _may_start(self, task: Task) -> bool:
        """Whether no reservation keeps the backend for others, and the task has something left to use."""
        queue = self._ledger.queues[task.job.backend]
        admitted = queue.admits(task.job.job_id, task.job.center, self._ledger.clock())
        return admitted and quota.left_s(self._ledger, task) > 0

    def _end(self, given: Given) -> None:
        self._read_one(given)
        given.lane.shut()
        given.lane.close()
        del self._given[given.runtime.number]

    def _read_one(self, given: Given) -> None:
        for record in given.runtime.logbook.read():
            if record.task == given.task:
                self._ledger.record(record.task, record.circuit_sha256, record.executed)


def recover(ledger: Ledger, logbooks: str) -> int:
    """Take over what the runtimes of a killed dispatcher have left in their logbooks, and remove these.

    `logbooks` is the beginning of their paths. The answer is how many executions that were.
    """
    began, found = time.monotonic(), 0
    paths = sorted(Path(logbooks).parent.glob(f"{Path(logbooks).name}*{SUFFIX}"))
    for path in paths:
        descriptor = open_logbook(path)
        logbook = Logbook(descriptor)
        for record in logbook.read():
            found += ledger.record(record.task, record.circuit_sha256, record.executed)
        logbook.close()
        os.close(descriptor)
    if found:
        trouble = ledger.store.commit(ledger.changes, last=True)
        if trouble:
            raise QslurmError(
                f"What is left in logbooks can't be stored: {trouble}.", hint="Make room, and start again."
            )
        ledger.stored()
        ledger.settled.clear()
    for path in paths:
        path.unlink()
    if found:
        log.info(
            "%d executions taken over from logbooks in %.0f ms", found, (time.monotonic() - began) * 1000
        )
    return found
