"""Assigns executions to quantum runtimes, takes results, and requeues lost executions."""

from __future__ import annotations

from qslurm.c2.dispatcher.tasks import quota
from qslurm.c2.dispatcher.tasks.task import Execution
from qslurm.c2.dispatcher.tasks.task_registry import TaskRegistry
from qslurm.c2.store.task_states import ExecutionState, TaskState, is_open
from qslurm.protocol.messages import Executed, OrderResult, Run
from qslurm.protocol.messages.remote_runtimes import Claim
from qslurm.runtimes.health import TryLaterError
from qslurm.system.event_log import EventLog

log = EventLog(__name__)

LOSSES = 2
"""Losses of its quantum runtime after which an execution fails."""


def assign(registry: TaskRegistry, backend: str, runtime: int) -> Run | None:
    """Assign the next execution to an idle quantum runtime; None if there is none, or nothing can be stored."""
    execution = None if registry.store_error else registry.next_execution(backend)
    if execution is None:
        return None
    order = next(registry.orders)
    registry.running[order] = (runtime, execution)
    now = registry.timer()
    if not execution.began:
        registry.counters.observe("queue_wait_seconds", now - execution.requested_at, backend)
    execution.began = now
    registry.move(execution, ExecutionState.RUNNING)
    task = registry.tasks[execution.task]
    if task.state is TaskState.ADMITTED:
        registry.start(task)
    circuit = execution.circuit
    return Run(
        order=order,
        circuit=circuit.text,
        shots=circuit.shots,
        raw_data=circuit.raw_data,
        seed=circuit.seed,
        file=circuit.file,
    )


def take_result(registry: TaskRegistry, message: OrderResult) -> int | None:
    """Take the result of an order. Returns its task; None if it was requeued or is not awaited."""
    runtime, execution = registry.running.get(message.order, (0, None))
    if execution is None or runtime != message.runtime:
        return None
    del registry.running[message.order]
    if message.kind == TryLaterError.kind:
        execution.losses += message.begun
        names = registry.tasks[execution.task].names()
        requeue = execution.losses < LOSSES
        log.info(
            "execution returned by its runtime", **names, seq=execution.seq, runtime=runtime, again=requeue
        )
        if requeue:
            registry.requeue(execution)
            return None
    _end(registry, execution, _outcome(message, execution.seq, execution.circuit.shots))
    return execution.task


def accept_result(registry: TaskRegistry, claim: Claim, message: OrderResult) -> None:
    """Take a result that a quantum runtime sends after it, or the dispatcher, was restarted or disconnected.

    It counts unless the execution has an outcome by now, or runs at another quantum runtime.
    """
    if claims(registry, message.runtime, claim) or adopt(registry, message.runtime, claim):
        take_result(registry, message)
    elif message.kind != TryLaterError.kind:
        task = registry.tasks.get(claim.task)
        if task is not None and is_open(task.state):
            registry.record(claim.task, claim.circuit_sha256, _outcome(message, claim.seq, claim.shots))


def claims(registry: TaskRegistry, runtime: int, claim: Claim) -> bool:
    """Whether the order of a claim is assigned to this quantum runtime, for the same execution."""
    holder, execution = registry.running.get(claim.order, (0, None))
    return execution is not None and holder == runtime and _is(execution, claim)


def adopt(registry: TaskRegistry, runtime: int, claim: Claim) -> bool:
    """Assign a waiting execution to the quantum runtime that runs it already; False if there is none."""
    task = registry.tasks.get(claim.task)
    execution = None if task is None else task.executions.get(claim.seq)
    if execution is None or execution.state is not ExecutionState.QUEUED or not _is(execution, claim):
        return False
    execution.began = registry.timer()
    registry.adopt(execution)
    registry.running[claim.order] = (runtime, execution)
    return True


def may_be_requested(registry: TaskRegistry, claim: Claim) -> bool:
    """Whether a job may still request the execution of a claim."""
    task = registry.tasks.get(claim.task)
    known = task is None or not is_open(task.state) or claim.seq in task.executions or claim.seq in task.ended
    return not known


def requeue_order(registry: TaskRegistry, runtime: int, order: int) -> None:
    """Requeue the execution of an order that the quantum runtime has not begun."""
    holder, execution = registry.running.get(order, (0, None))
    if execution is not None and holder == runtime:
        del registry.running[order]
        registry.requeue(execution)


def _is(execution: Execution, claim: Claim) -> bool:
    return (execution.task, execution.seq, execution.circuit_sha256) == (
        claim.task,
        claim.seq,
        claim.circuit_sha256,
    )


def _outcome(message: OrderResult, seq: int, shots: int) -> Executed:
    return Executed(
        seq=seq,
        shots_requested=shots,
        shots_done=0 if message.error else message.shots_done,
        counts={} if message.error else message.counts,
        seconds=message.seconds,
        raw_data=None if message.error else message.raw_data,
        error=message.error,
        kind="job_failed" if message.kind == TryLaterError.kind else message.kind,
    )


def lost(
    registry: TaskRegistry, runtime: int, why: str, *, fail: bool = False, only: int | None = None
) -> None:
    """A quantum runtime was lost: requeue its executions (or `only` that of this order). With `fail`, or at the second
    loss, they fail instead.
    """
    for order, (holder, execution) in list(registry.running.items()):
        if holder != runtime or only not in {None, order}:
            continue
        del registry.running[order]
        execution.losses += 1
        requeue = not fail and execution.losses < LOSSES
        names = registry.tasks[execution.task].names()
        log.warning("execution lost", **names, seq=execution.seq, runtime=runtime, again=requeue, why=why)
        if requeue:
            registry.requeue(execution)
            continue
        again = "" if fail else " twice"
        took = registry.timer() - execution.began
        used_up = fail and took >= quota.left_s(registry, registry.tasks[execution.task])
        outcome = Executed(
            seq=execution.seq,
            shots_requested=execution.circuit.shots,
            shots_done=0,
            counts={},
            seconds=took,
            error=f"{why}{again}.",
            kind=quota.KIND if used_up else "job_failed",
        )
        _end(registry, execution, outcome)


def left_s(registry: TaskRegistry, order: int) -> tuple[float, str]:
    """The QPU-seconds that an order may take, and the reason when it exceeds them."""
    _, execution = registry.running[order]
    task = registry.tasks[execution.task]
    left = quota.left_s(registry, task)
    return left, "" if left == float("inf") else quota.reason(registry, task)


def _end(registry: TaskRegistry, execution: Execution, outcome: Executed) -> None:
    registry.end_execution(execution, outcome)
    task = registry.tasks[execution.task]
    if task.executions:  # more circuits wait
        quota.end_if_used_up(registry, task)


def load(registry: TaskRegistry, backend: str) -> tuple[int, int]:
    """The numbers of queued and of running executions of a backend."""
    queue = registry.queues[backend]
    return len(queue), queue.running
