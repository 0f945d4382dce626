"""All open tasks and executions, and their changes.

The registry reads the store and does not write it. Requests of hooks, steps and quantum runtimes change it, and collect
what the main loop has to do next: `changes` to store, `settled` outcomes to send once these are stored, and
`runtimes_to_kill`, quantum runtimes whose execution was withdrawn.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable

import msgspec

from qslurm.c2.config.dispatcher_section import BackendConfig
from qslurm.c2.dispatcher.tasks.task import CircuitRequest, Execution, Task, ended, task_from_row
from qslurm.c2.dispatcher.tasks.unsaved_changes import Changes
from qslurm.c2.scheduling.backend_queue import BackendQueue
from qslurm.c2.scheduling.policy import QueuedExecution
from qslurm.c2.scheduling.reservations import Reservation
from qslurm.c2.store import statements
from qslurm.c2.store.store import Row, Store
from qslurm.c2.store.task_states import ExecutionState, TaskState, is_open, move_execution, move_task
from qslurm.errors import UsedUpError
from qslurm.protocol.messages import END, Admit, Executed, Message
from qslurm.protocol.metrics import Counters
from qslurm.reason_codes import ReasonCode
from qslurm.runtimes.interface import BackendType
from qslurm.system.event_log import EventLog

log = EventLog(__name__)


class TaskRegistry:
    """Loads the open tasks from the store."""

    def __init__(
        self,
        backends: Iterable[BackendConfig],
        store: Store,
        *,
        clock: Callable[[], float] = time.time,
        timer: Callable[[], float] = time.monotonic,
    ) -> None:
        self.backends = {backend.name: backend for backend in backends}
        self.queues = {name: BackendQueue(backend) for name, backend in self.backends.items()}
        self.tasks: dict[int, Task] = {}
        self.changes = Changes()
        self.changes_must_sync = False  # they must survive a power cut
        self.settled: list[tuple[int, int, Message]] = []
        self.runtimes_to_kill: list[int] = []
        self.unavailable: dict[str, str] = {}  # backend -> why it can't take jobs
        self.backend_types: dict[str, BackendType] = {}  # as quantum runtimes describe them
        self.store_error = ""  # why nothing can be stored at present, or ""
        self.store = store
        self.clock = clock
        self.timer = timer
        self.running: dict[int, tuple[int, Execution]] = {}  # order -> quantum runtime, execution
        self.orders = itertools.count(1)
        self.counters = Counters()
        self._numbers = itertools.count(1)
        self._last_task = store.last_task()
        self._ended: list[int] = []  # tasks, since changes were last stored
        self._load_reservations_and_usage()
        for row in store.open_tasks():
            self._load(task_from_row(row))

    def stored(self) -> None:
        """Forget the changes, which are stored, and the tasks that have ended."""
        self.changes.clear()
        self.changes_must_sync = False
        for task_id in self._ended:
            del self.tasks[task_id]
        self._ended.clear()

    def store_error_message(self) -> str:
        """Why a request has to wait while nothing can be stored."""
        return f"cannot store results at the moment: {self.store_error}"

    def set_backend(self, name: str, *, offline: bool, reason: str) -> None:
        """Set a backend offline or online."""
        self.changes_must_sync = True
        self.changes.append(statements.set_backend(name, offline=offline, reason=reason, since=self.clock()))

    def tasks_of_job(self, job_id: int) -> list[Task]:
        """Every task with that C2 job id, newest first."""
        here = [task for task in self.tasks.values() if task.job.job_id == job_id]
        return self._with_stored(here, self.store.tasks_of_job(job_id))

    def tasks_of_key(self, center: str, key: str) -> list[Task]:
        """Every task of one submission, newest first; none for an empty key."""
        if not key:
            return []
        here = [task for task in self.tasks.values() if (task.job.center, task.job.key) == (center, key)]
        return self._with_stored(here, self.store.tasks_of_key(center, key))

    def next_event(self) -> float:
        """When an execution may start that may not now (the timer's seconds)."""
        now, at = self.timer(), self.clock()
        return min((queue.next_event(now, at) for queue in self.queues.values()), default=float("inf"))

    def reserve(self, reservation: Reservation) -> None:
        """Add a reservation."""
        self.changes_must_sync = True
        self.queues[reservation.backend].reservations[reservation.id] = reservation
        self.changes.append(statements.insert_reservation(msgspec.structs.asdict(reservation)))

    def release(self, reservation: Reservation) -> None:
        """Remove a reservation."""
        self.changes_must_sync = True
        del self.queues[reservation.backend].reservations[reservation.id]
        self.changes.append(statements.delete_reservation(reservation.id))

    def begin(self, job: Admit) -> Task:
        """Add a task for an admitted job."""
        self.changes_must_sync = True
        self._last_task += 1
        task = Task(id=self._last_task, job=job, state=TaskState.ADMITTED, admitted_at=self.clock())
        self.tasks[task.id] = task
        self.changes.task_begun(task)
        _log(task)
        return task

    def start(self, task: Task) -> None:
        """Set a task running."""
        task.state = move_task(task.state, TaskState.RUNNING)
        task.started_at = max(self.clock(), task.admitted_at)  # the clock may have been set back
        self.changes.task_started(task, task.started_at)
        _log(task)

    def end(
        self,
        task: Task,
        state: TaskState,
        reason: str = "",
        code: ReasonCode = ReasonCode.NONE,
        *,
        at: float | None = None,
    ) -> None:
        """End a task, now or as of `at` (Unix seconds), and withdraw its executions."""
        task.state = move_task(task.state, state)
        task.reason, task.reason_code = reason, code
        task.finished_at = max(self.clock() if at is None else at, task.since)
        self.changes.task_ended(task, task.finished_at)
        _log(task)
        for execution in list(task.executions.values()):
            self._withdraw(execution)
            self.settled.append((task.id, execution.seq, ended(task)))
        if task.job.kind == "session":
            self.settled.append((task.id, END, ended(task)))
        self._ended.append(task.id)
        self.counters.add("jobs_ended", task.job.backend, task.job.center, task.job.kind, state)
        queue = self.queues.get(task.job.backend)
        if queue is not None:
            queue.forget(task.job.job_id)
            if state is not TaskState.WITHDRAWN:  # a requeued job will start again
                for one in queue.reservations_of_job(task.job.job_id, self.clock()):
                    self.release(one)

    def queue_circuit_job(self, task: Task) -> None:
        """Queue the one circuit of a circuit job."""
        envelope = task.job.envelope
        if envelope is None:
            self.end(task, TaskState.FAILED, "The job carries no circuit.")
            return
        shots = envelope.shots or self.backends[task.job.backend].default_shots
        circuit = CircuitRequest(envelope.source, shots, envelope.raw_data, envelope.seed, envelope.file)
        self.queue(task, 0, circuit)

    def queue(self, task: Task, seq: int, circuit: CircuitRequest) -> None:
        """Queue a circuit for the task's backend."""
        now = self.timer()
        execution = Execution(task.id, seq, next(self._numbers), circuit, circuit.digest(), requested_at=now)
        if seq in task.lost:
            task.lost.discard(seq)
            execution.losses = 1
        task.executions[seq] = execution
        job = task.job
        waiting = QueuedExecution(task.id, seq, execution.number, job.center, job.job_id, hybrid=task.couples)
        self.queues[job.backend].add(waiting, now)
        self.changes.execution_queued(execution, self.clock())

    def next_execution(self, backend: str) -> Execution | None:
        """Start and return the next execution of a backend, by its policy."""
        waiting = self.queues[backend].take(self.timer(), self.clock())
        return None if waiting is None else self.tasks[waiting.task].executions[waiting.seq]

    def adopt(self, execution: Execution) -> None:
        """Start a waiting execution that runs already, at a quantum runtime that has reconnected."""
        self._queue(execution).start(execution.task, execution.seq, self.timer())
        self.move(execution, ExecutionState.RUNNING)
        task = self.tasks[execution.task]
        if task.state is TaskState.ADMITTED:
            self.start(task)

    def requeue(self, execution: Execution) -> None:
        """Queue an execution again, at its old position: its quantum runtime was lost."""
        self._queue(execution).requeue(execution.task, execution.seq)
        self.counters.add("executions_again", self.tasks[execution.task].job.backend)
        self.move(execution, ExecutionState.QUEUED)

    def move(self, execution: Execution, state: ExecutionState) -> None:
        """Change an execution's state, without an outcome."""
        execution.state = move_execution(execution.state, state)
        self.changes.execution_moved(execution, self.clock())

    def end_execution(self, execution: Execution, outcome: Executed) -> None:
        """Record an execution's outcome; a circuit job ends with it."""
        self._queue(execution).finish(execution.task, execution.seq, outcome.seconds, self.timer())
        state = ExecutionState.FAILED if outcome.error else ExecutionState.DONE
        execution.state = move_execution(execution.state, state)
        self.changes.execution_ended(execution.task, outcome, state, self.clock())
        task = self.tasks[execution.task]
        self._count(task, outcome, state, "dispatcher")
        if task.couples:
            self.counters.observe_on_reply("step_seconds", execution.requested_at, task.job.backend)
        del task.executions[execution.seq]
        task.ended.add(execution.seq)
        task.qpu_seconds += outcome.seconds
        self.settled.append((task.id, execution.seq, outcome))
        if outcome.kind == UsedUpError.kind:
            self.end(task, TaskState.TIMED_OUT, outcome.error, ReasonCode.USED_UP)
        elif task.job.kind == "circuit":
            self.end(task, TaskState.FAILED if outcome.error else TaskState.FINISHED, outcome.error)

    def _queue(self, execution: Execution) -> BackendQueue:
        return self.queues[self.tasks[execution.task].job.backend]

    def record(self, task_id: int, circuit_sha256: str, outcome: Executed) -> bool:
        """Record an execution by lane; False if it is known already."""
        task = self.tasks.get(task_id)
        if task is None or outcome.seq in task.ended or outcome.seq in task.executions:
            return False
        state = ExecutionState.FAILED if outcome.error else ExecutionState.DONE
        self.changes.executed_by_lane(task_id, circuit_sha256, outcome, state, self.clock())
        self._count(task, outcome, state, "lane")
        task.ended.add(outcome.seq)
        task.qpu_seconds += outcome.seconds
        self.settled.append((task_id, outcome.seq, outcome))
        job = task.job
        self.queues[job.backend].charge_lane_execution(job.job_id, job.center, outcome.seconds, self.timer())
        if outcome.kind == UsedUpError.kind and is_open(task.state):
            self.end(task, TaskState.TIMED_OUT, outcome.error, ReasonCode.USED_UP)
        return True

    def _count(self, task: Task, outcome: Executed, state: ExecutionState, way: str) -> None:
        self.counters.execution(
            task.job.backend,
            task.job.center,
            state,
            way,
            seconds=max(0.0, outcome.seconds),
            shots=outcome.shots_done,
        )

    def _withdraw(self, execution: Execution) -> None:
        self._queue(execution).withdraw(execution.task, execution.seq, self.timer())
        for order, (runtime, running) in list(self.running.items()):
            if running is execution:
                del self.running[order]
                self.runtimes_to_kill.append(runtime)
        self.move(execution, ExecutionState.WITHDRAWN)
        task = self.tasks[execution.task]
        self.counters.add(
            "executions", task.job.backend, task.job.center, ExecutionState.WITHDRAWN, "dispatcher"
        )
        del task.executions[execution.seq]

    def _load_reservations_and_usage(self) -> None:
        now, at = self.timer(), self.clock()
        for row in self.store.reservations():
            if row["backend"] in self.queues:
                self.queues[row["backend"]].reservations[row["id"]] = Reservation(**row)
        for name, queue in self.queues.items():
            if queue.policy.by_center:
                since = (
                    at - 10 * self.backends[name].half_life_s
                )  # of earlier use less than a thousandth is left
                for row in self.store.used(name, since):
                    queue.charge(row["center"], row["seconds"], now - max(0.0, at - row["at"]))

    def _load(self, task: Task) -> None:
        self.tasks[task.id] = task
        if task.job.backend not in self.backends:
            self.end(task, TaskState.FAILED, f"Backend {task.job.backend!r} is no longer configured.")
            return
        rows = self.store.executions(task.id)
        task.ended = {row["seq"] for row in rows if row["state"] in {"done", "failed"}}
        task.qpu_seconds = sum(row["seconds"] for row in rows)
        if task.job.kind == "circuit":
            self.queue_circuit_job(task)

    def _with_stored(self, here: list[Task], rows: list[Row]) -> list[Task]:
        stored = [task_from_row(row) for row in rows if row["id"] not in self.tasks]
        return sorted(here + stored, key=lambda task: -task.id)


def _log(task: Task) -> None:
    # Without the reason: it may quote a user's circuit.
    log.info("job changes", **task.names(), task=task.id, kind=task.job.kind, state=task.state)
