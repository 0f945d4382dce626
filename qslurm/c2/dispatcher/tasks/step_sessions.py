"""Requests of job steps, TaskProlog and TaskEpilog, carried out on the task registry."""

from __future__ import annotations

import hashlib
import hmac
import secrets

import msgspec

from qslurm.c2.dispatcher.tasks import quota
from qslurm.c2.dispatcher.tasks.task import CircuitRequest, Task, attached, ended, outcome_from_row
from qslurm.c2.dispatcher.tasks.task_ending import SlurmEnd, end_of
from qslurm.c2.dispatcher.tasks.task_registry import TaskRegistry
from qslurm.c2.scheduling.queue_positions import reason
from qslurm.c2.store import statements
from qslurm.c2.store.reader import LONGEST_REASON
from qslurm.c2.store.task_states import ExecutionState, TaskState, is_open
from qslurm.protocol.messages import (
    CIRCUIT_BYTES_IN_SESSION,
    END,
    OPEN_EXECUTIONS,
    OPEN_IN_SESSION,
    Attach,
    Attached,
    Begin,
    Conclude,
    Done,
    End,
    Execute,
    Executed,
    Message,
    Pending,
    Refused,
)
from qslurm.protocol.nesting import TOO_DEEP, text_is_too_deep
from qslurm.system.event_log import EventLog

log = EventLog(__name__)

_LONGEST_REMARK = 4000

NO_CIRCUIT = "The hybrid file executed no circuit."
NO_CIRCUIT_IN_SESSION = "The session executed no circuit."


def attach(registry: TaskRegistry, message: Attach, uid: int) -> Message:
    """A job step asks for its job's data and opens its session."""
    task = next(iter(registry.tasks_of_job(message.job_id)), None)
    answer = _attach(registry, task, message, uid)
    refused = answer.reason if isinstance(answer, Refused) else None
    log.info("step attaches", **_names(task, message), uid=uid, refused=refused)
    return answer


def begin(registry: TaskRegistry, message: Begin, uid: int) -> Message:
    """A batch script is about to run. Only the first launch of a script job may; Slurm may have lost that one."""
    task = next(iter(registry.tasks_of_job(message.job_id)), None)
    answer: Message | None = _not_admitted(message) if task is None else _complaint(task, message, uid)
    if answer is None and task is not None and task.job.kind == "script" and task.client != message.launch:
        answer = _begin(registry, task, message)
    refused = answer.reason if isinstance(answer, Refused) else None
    log.info("script begins", **_names(task, message), uid=uid, refused=refused)
    return answer or Done()


def _begin(registry: TaskRegistry, task: Task, message: Begin) -> Refused | None:
    if task.client or not is_open(task.state):
        reason = f"The script of job {message.job_id} was already started and is not run twice."
        return Refused(kind="refused", reason=reason if task.client else ended(task).reason)
    task.client = message.launch
    registry.changes_must_sync = True
    registry.changes.append(statements.update_task(task.id, client=message.launch))
    registry.start(task)
    return None


def script_ended(registry: TaskRegistry, message: End, uid: int) -> Message:
    """A batch script has ended on its node. Slurm reports how, unless slurmctld is killed before it is informed."""
    task = next(iter(registry.tasks_of_job(message.job_id)), None)
    complaint = _not_admitted(message) if task is None else _complaint(task, message, uid)
    if complaint is not None or task is None:
        return complaint or Done()
    if task.job.kind != "script" or not task.client:
        return Done()
    now = registry.clock()
    at = max(now if message.ended_at is None else min(message.ended_at, now), task.since)
    if is_open(task.state) and task.finished_at is None:
        task.finished_at = at
        registry.changes.append(statements.update_task(task.id, finished_at=at))
    elif task.state is TaskState.CANCELLED and task.finished_at is not None:  # Slurm's report came first
        end = end_of("script", SlurmEnd("CANCELLED", task.finished_at, task.reason), message.ended_at)
        if end.state is not task.state:
            changed = {"state": end.state, "reason": end.reason, "reason_code": end.reason_code}
            registry.changes.append(statements.update_task(task.id, **changed))
    return Done()


def _names(task: Task | None, message: Attach | Begin) -> dict[str, str | int]:
    """Fields of a log line about a request's job."""
    return {"job": message.job_id, "restart": message.restart} if task is None else task.names()


def _complaint(task: Task, message: Attach | Begin | End, uid: int) -> Refused | None:
    """Why a request about this task is refused; None if it is not."""
    if task.job.restart < message.restart:
        return _not_admitted(message)
    if task.job.uid != uid:
        return Refused(
            kind="permission", reason=f"Permission denied: job {message.job_id} belongs to another user."
        )
    if task.job.restart > message.restart:
        return Refused(kind="refused", reason=f"A later start of job {message.job_id} was admitted.")
    return None


def another_job(job_id: int) -> Refused:
    """The refusal for a process that does not belong to the job."""
    return Refused(
        kind="permission",
        reason=f"Permission denied: this process does not belong to job {job_id}.",
    )


def _not_admitted(message: Attach | Begin | End) -> Refused:
    return Refused(kind="not_ready", reason=f"Job {message.job_id} is not admitted.")


def _attach(registry: TaskRegistry, task: Task | None, message: Attach, uid: int) -> Message:
    if task is None:
        return _not_admitted(message)
    if complaint := _complaint(task, message, uid):
        return complaint
    backend = registry.backends.get(task.job.backend)
    if task.job.kind == "script" or backend is None:
        return Refused(kind="invalid_input", reason=f"Job {message.job_id} has no circuit or hybrid file.")
    outcome = None
    if task.is_closed:  # how it ended, without its data and results
        closed = _attached(registry, task, None)
        return msgspec.structs.replace(closed, secret=b"", envelope=None, final_result=None)
    if is_open(task.state):
        if task.couples and task.client not in {"", message.client}:
            return Refused(
                kind="refused",
                reason=f"Another step of job {message.job_id} is already executing its payload.",
            )
        _open_session(registry, task, message.client)
    elif task.job.kind == "circuit":
        outcome = _stored_outcome(registry, task.id, 0)
    return _attached(registry, task, outcome)


def _attached(registry: TaskRegistry, task: Task, outcome: Executed | None) -> Attached:
    backend = registry.backends[task.job.backend]
    return attached(
        task,
        outcome,
        qubits=backend.qubits,
        max_shots=backend.max_shots,
        default_shots=backend.default_shots,
        backend_type=registry.backend_types.get(backend.name),
    )


def is_session(registry: TaskRegistry, task: int, secret: bytes) -> bool:
    """Whether this is the secret of the task's session."""
    known = registry.tasks.get(task)
    return known is not None and known.secret != b"" and hmac.compare_digest(known.secret, secret)


def execute(registry: TaskRegistry, message: Execute) -> Message | None:
    """Execute a circuit of a hybrid job. None: it is queued or running; the outcome will be settled."""
    task = registry.tasks[message.task]
    if not is_open(task.state) or not task.couples:
        return ended(task)
    backend = registry.backends[task.job.backend]
    circuit = CircuitRequest(message.circuit, message.shots, message.raw_data, message.seed)
    known = task.executions.get(message.seq)
    if known is not None:
        return _other_circuit(message.seq) if known.circuit_sha256 != circuit.digest() else None
    if message.seq in task.ended:
        row = registry.store.execution(task.id, message.seq)
        if row is not None and row["circuit_sha256"] != circuit.digest():
            return _other_circuit(message.seq)
        return _stored_outcome(registry, task.id, message.seq)
    if not 1 <= message.shots <= backend.max_shots:
        reason = f"Invalid number of shots: {message.shots}. Backend {backend.name} takes 1 to {backend.max_shots}."
        return Refused(kind="invalid_input", reason=reason)
    if error := _too_many(task, message):
        return Refused(kind="refused", reason=error)
    if quota.end_if_used_up(registry, task):
        return ended(task)
    registry.queue(task, message.seq, circuit)
    return None


def outcome(registry: TaskRegistry, task_id: int, seq: int) -> Message | None:
    """The outcome of an execution. None: it is queued or running."""
    task = registry.tasks[task_id]
    if seq in task.executions:
        return None
    if seq in task.ended:
        return _stored_outcome(registry, task_id, seq)
    if not is_open(task.state):
        return ended(task)
    return Refused(kind="unknown_execution", reason=f"Unknown execution {seq}.")


def pending(registry: TaskRegistry, task_id: int, seq: int) -> Message:
    """Why an execution has no outcome yet."""
    if registry.store_error:
        return Pending(reason=registry.store_error_message(), position=0, again=True)
    task = registry.tasks.get(task_id)
    if task is None:
        return Pending(reason="the job has ended", position=0)
    if seq == END:
        return Pending(reason="the session is open", position=0)
    execution = task.executions.get(seq)
    if execution is None or execution.state is ExecutionState.RUNNING:
        return Pending(reason=f"executing on {task.job.backend}", position=0)
    backend = task.job.backend
    queue = registry.queues[backend]
    waiting = queue.waiting_order.numbered(execution.number)
    why, position = reason(queue, backend, waiting, registry.timer(), registry.clock())
    return Pending(reason=registry.unavailable.get(backend, "") or why, position=position)


def session_of_secret(registry: TaskRegistry, secret: bytes) -> Attached | None:
    """The open session with this secret, for a client at a center; None if there is none."""
    digest = hashlib.sha256(secret).hexdigest()
    for task in registry.tasks.values():
        envelope = task.job.envelope
        if (
            task.job.kind == "session"
            and task.state is TaskState.RUNNING
            and envelope is not None
            and hmac.compare_digest(envelope.session, digest)
        ):
            return msgspec.structs.replace(_attached(registry, task, None), secret=b"")
    return None


def conclude(registry: TaskRegistry, message: Conclude) -> Message:
    """End a task with the final result of its file, or its failure; repeated requests change nothing."""
    task = registry.tasks[message.task]
    if not is_open(task.state) or not task.couples:
        return ended(task)
    if message.final_result is not None and text_is_too_deep(message.final_result):
        return Refused(kind="invalid_input", reason=f"The final result is {TOO_DEEP}.")
    if message.final_result is not None and not _is_json_object(message.final_result):
        return Refused(kind="invalid_input", reason="The final result is not a JSON object.")
    if message.failure or (message.final_result is None and task.job.kind != "session"):
        why = message.failure[:LONGEST_REASON] or "The hybrid file returned no final result."
        registry.end(task, TaskState.FAILED, why)
    else:
        task.final_result = message.final_result
        nothing = NO_CIRCUIT_IN_SESSION if task.job.kind == "session" else NO_CIRCUIT
        remarks = [message.remark[:_LONGEST_REMARK], "" if task.executions or task.ended else nothing]
        registry.end(task, TaskState.FINISHED, " ".join(filter(None, remarks)))
    return Done()


def _too_many(task: Task, message: Execute) -> str:
    """Why a task may not have one more open circuit, or ""."""
    session = task.job.kind == "session"
    most = OPEN_IN_SESSION if session else OPEN_EXECUTIONS
    if len(task.executions) >= most:
        return f"Too many circuits under way: a job may have {most}."
    if session and task.executions:
        size = len(message.circuit) + sum(len(one.circuit.text) for one in task.executions.values())
        if size > CIRCUIT_BYTES_IN_SESSION:
            return f"Too many circuits under way: a session may have {CIRCUIT_BYTES_IN_SESSION >> 20} MiB of them."
    return ""


def _is_json_object(text: str) -> bool:
    # A step may send anything, and others read what is stored.
    try:
        msgspec.json.decode(text, type=dict[str, msgspec.Raw])
    except (msgspec.DecodeError, RecursionError):
        return False
    return True


def _open_session(registry: TaskRegistry, task: Task, client: str) -> None:
    task.secret = task.secret or secrets.token_bytes(32)
    if task.client != client:
        task.client = client
        registry.changes.append(statements.update_task(task.id, client=client))
    if task.state is TaskState.ADMITTED and task.couples:
        registry.start(task)


def _stored_outcome(registry: TaskRegistry, task: int, seq: int) -> Executed | None:
    row = registry.store.execution(task, seq)
    return outcome_from_row(row) if row is not None and row["state"] in {"done", "failed"} else None


def _other_circuit(seq: int) -> Refused:
    return Refused(kind="refused", reason=f"Execution {seq} was already requested with another circuit.")
