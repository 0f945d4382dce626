"""What the dispatcher does with its quantum runtimes: give them work, take results, make good losses."""

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
"""Quantum runtimes that one execution may cost before it fails."""


def assign(registry: TaskRegistry, backend: str, runtime: int) -> Run | None:
    """The next execution for an idle quantum runtime; None while there is none, or nothing can be stored."""
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


def result(registry: TaskRegistry, message: OrderResult) -> int | None:
    """A quantum runtime has done its order: the task that has its outcome. One that nobody waits for is dropped."""
    runtime, execution = registry.running.get(message.order, (0, None))
    if execution is None or runtime != message.runtime:
        return None
    del registry.running[message.order]
    if message.kind == TryLaterError.kind:
        execution.losses += message.begun
        names = registry.tasks[execution.task].names()
        once_more = execution.losses < LOSSES
        log.info(
            "execution returned by its runtime", **names, seq=execution.seq, runtime=runtime, again=once_more
        )
        if once_more:
            registry.requeue(execution)
            return None
    _end(registry, execution, _outcome(message, execution.seq, execution.circuit.shots))
    return execution.task


def accept_result(registry: TaskRegistry, claim: Claim, message: OrderResult) -> None:
    """A quantum runtime has an answer to what it was given before a pause, of its own or of the dispatcher's.

    It counts unless the execution has an outcome by now, or runs at another quantum runtime.
    """
    if claims(registry, message.runtime, claim) or adopt(registry, message.runtime, claim):
        result(registry, message)
    elif message.kind != TryLaterError.kind:
        task = registry.tasks.get(claim.task)
        if task is not None and is_open(task.state):
            registry.record(claim.task, claim.circuit_sha256, _outcome(message, claim.seq, claim.shots))


def claims(registry: TaskRegistry, runtime: int, claim: Claim) -> bool:
    """Whether that order is this quantum runtime's, and means this execution."""
    holder, execution = registry.running.get(claim.order, (0, None))
    return execution is not None and holder == runtime and _is(execution, claim)


def adopt(registry: TaskRegistry, runtime: int, claim: Claim) -> bool:
    """Give an execution that waits to the quantum runtime that has it since before, unless there is none."""
    task = registry.tasks.get(claim.task)
    execution = None if task is None else task.executions.get(claim.seq)
    if execution is None or execution.state is not ExecutionState.QUEUED or not _is(execution, claim):
        return False
    execution.began = registry.timer()
    registry.adopt(execution)
    registry.running[claim.order] = (runtime, execution)
    return True


def may_be_requested(registry: TaskRegistry, claim: Claim) -> bool:
    """Whether a job may still ask for that execution."""
    task = registry.tasks.get(claim.task)
    known = task is None or not is_open(task.state) or claim.seq in task.executions or claim.seq in task.ended
    return not known


def give_back(registry: TaskRegistry, runtime: int, order: int) -> None:
    """An order of a quantum runtime has not been begun: it waits again."""
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
    """A quantum runtime has ended. Another does its work (or `only` this order of it) again, or it fails: at once,
    or the second time.
    """
    for order, (holder, execution) in list(registry.running.items()):
        if holder != runtime or only not in {None, order}:
            continue
        del registry.running[order]
        execution.losses += 1
        once_more = not fail and execution.losses < LOSSES
        names = registry.tasks[execution.task].names()
        log.warning("execution lost", **names, seq=execution.seq, runtime=runtime, again=once_more, why=why)
        if once_more:
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
    """How long an order may take until its job has used up its QPU-seconds, and what is to be said then."""
    _, execution = registry.running[order]
    task = registry.tasks[execution.task]
    left = quota.left_s(registry, task)
    return left, "" if left == float("inf") else quota.reason(registry, task)


def _end(registry: TaskRegistry, execution: Execution, outcome: Executed) -> None:
    registry.end_execution(execution, outcome)
    task = registry.tasks[execution.task]
    if task.executions:  # it wants more
        quota.end_if_used_up(registry, task)


def load(registry: TaskRegistry, backend: str) -> tuple[int, int]:
    """How many executions are queued at a backend, and how many run."""
    queue = registry.queues[backend]
    return len(queue), queue.running
