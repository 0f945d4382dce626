"""Requests of C2's hooks, and of the gate, carried out on the task registry."""

from __future__ import annotations

from dataclasses import replace

from qslurm.c2.dispatcher.tasks import admission
from qslurm.c2.dispatcher.tasks.task import Task, task_from_row
from qslurm.c2.dispatcher.tasks.task_ending import SlurmEnd, end_of, was_cancelled_at_launch
from qslurm.c2.dispatcher.tasks.task_registry import TaskRegistry
from qslurm.c2.store import statements
from qslurm.c2.store.task_states import TaskState, is_open
from qslurm.protocol.messages import (
    Admit,
    Admitted,
    Done,
    Ends,
    Finish,
    GetEnds,
    KnownEnd,
    Message,
    NotAdmitted,
)
from qslurm.reason_codes import END_UNKNOWN, ReasonCode

ID_REUSED = "C2's Slurm was killed, forgot the job and reused its id for another."


def admit(registry: TaskRegistry, job: Admit, error: str | None) -> Admitted | NotAdmitted | None:
    """The reply to the prolog plugin. None: the job's data must be checked first; `error` is the result of that."""
    decision = admission.decide(
        job,
        _facts(registry, job.backend),
        [_start(task) for task in registry.tasks_of_job(job.job_id)],
        [_start(task) for task in registry.tasks_of_key(job.center, job.key)],
        registry.store_error,
    )
    if isinstance(decision, admission.AlreadyAdmitted):
        _note_known(registry, job)
        return Admitted()
    if isinstance(decision, admission.Accept) and decision.reuse is None and job.envelope is not None:
        if error is None:
            return None
        if error:
            decision = admission.Reject(error, retry=False)
    if isinstance(decision, admission.Reject):
        if not decision.retry and not registry.store_error:
            _note_refusal(registry, job, decision.reason)
        return NotAdmitted(reason=decision.reason, retry=decision.retry)
    _take(registry, job, decision)
    return Admitted()


def finish(registry: TaskRegistry, message: Finish) -> Message:
    """Slurm reports that a start of a job has ended."""
    starts = [task for task in registry.tasks_of_job(message.job_id) if task.job.restart == message.restart]
    task = next((task for task in starts if not message.key or task.job.key == message.key), None)
    if task is None or task.slurm_state:
        return Done()
    registry.changes_must_sync = True  # Slurm completes the job after our reply
    task.slurm_state, task.exit_code = message.state, message.exit_code
    registry.changes.append(
        statements.update_task(task.id, slurm_state=message.state, exit_code=message.exit_code)
    )
    if is_open(task.state):
        at = registry.clock() if message.ended_at is None else min(message.ended_at, registry.clock())
        slurm = SlurmEnd(message.state, at, message.reason, message.reason_code)
        began = task.job.kind != "script" or bool(task.client)
        if was_cancelled_at_launch(slurm, task.admitted_at, began=began):
            slurm = replace(slurm, state="CANCELLED")
        end = end_of(task.job.kind, slurm, task.finished_at)
        registry.end(task, end.state, end.reason, end.reason_code, at=at)
    return Done()


def ends(registry: TaskRegistry, message: GetEnds) -> Ends:
    """Which of these jobs have ended, by their last start known here, whatever slurmctld reports."""
    newest = (next(iter(registry.tasks_of_job(job_id)), None) for job_id in message.job_ids)
    return Ends(
        ends=[
            KnownEnd(
                job_id=task.job.job_id,
                restart=task.job.restart,
                center=task.job.center,
                backend=task.job.backend,
                key=task.job.key,
                admitted_at=task.admitted_at,
                ended_at=task.finished_at,
            )
            for task in newest
            if task is not None and task.finished_at is not None and _is_over(task)
        ]
    )


def _is_over(task: Task) -> bool:
    """Whether the job of an ended task has ended, too: a circuit's task ends before its job does."""
    if is_open(task.state):
        return True  # TaskEpilog reported the end, Slurm has not
    return task.is_closed and task.job.key != "" and task.state is not TaskState.WITHDRAWN


def _take(registry: TaskRegistry, job: Admit, decision: admission.Accept) -> None:
    for task_id in decision.instead_of:
        replaced = registry.tasks[task_id]
        if (replaced.job.center, replaced.job.key) == (job.center, job.key):
            registry.end(replaced, TaskState.WITHDRAWN, f"Replaced by a new start of job {job.job_id}.")
        else:
            registry.end(replaced, TaskState.FAILED, ID_REUSED)
    task = registry.begin(job)
    if decision.reuse is not None:
        _reuse(registry, task, decision.reuse)
    elif job.kind == "circuit":
        registry.queue_circuit_job(task)


def _reuse(registry: TaskRegistry, task: Task, source_id: int) -> None:
    source = registry.tasks.get(source_id) or next(
        task_from_row(row)
        for row in registry.store.tasks_of_key(task.job.center, task.job.key)
        if row["id"] == source_id
    )
    task.final_result = source.final_result
    registry.changes.append(statements.copy_executions(source_id, task.id))
    registry.changes.append(statements.update_task(task.id, final_result=task.final_result))
    registry.end(
        task, TaskState.FINISHED, f"Results taken from job {source.job.job_id}, the same submission."
    )


def _facts(registry: TaskRegistry, name: str) -> admission.BackendAvailability | None:
    backend = registry.backends.get(name)
    if backend is None:
        return None
    return admission.BackendAvailability(name, backend.max_shots, registry.unavailable.get(name, ""))


def _note_refusal(registry: TaskRegistry, job: Admit, reason: str) -> None:
    """Store why a job may never run, for its owner; an earlier run of it stays as it is."""
    known = registry.tasks_of_job(job.job_id)
    began = next((task for task in known if job.key and task.job.key == job.key and _start(task).ran), None)
    starts = [task for task in known if task.job.restart == job.restart]
    if began is not None:
        if is_open(began.state):
            registry.end(began, TaskState.FAILED, END_UNKNOWN, ReasonCode.END_UNKNOWN)
    elif not starts or (starts[0].state, starts[0].job.key) != (TaskState.FAILED, job.key):
        registry.end(registry.begin(job), TaskState.FAILED, reason)


def _note_known(registry: TaskRegistry, job: Admit) -> None:
    """Reopen a start whose end Slurm had reported: it starts again, since slurmctld lost that."""
    task = next(iter(registry.tasks_of_job(job.job_id)), None)
    if task is not None and task.slurm_state and (task.job.key, task.job.restart) == (job.key, job.restart):
        task.slurm_state, task.exit_code = "", None
        registry.changes.append(statements.update_task(task.id, slurm_state="", exit_code=None))


def _start(task: Task) -> admission.KnownStart:
    job = task.job
    return admission.KnownStart(
        task=task.id,
        job_id=job.job_id,
        restart=job.restart,
        center=job.center,
        key=job.key,
        uid=job.uid,
        kind=job.kind,
        state=task.state,
        reason=task.reason,
        reason_code=task.reason_code,
        started=task.started_at is not None,
        closed=bool(task.slurm_state),
    )
