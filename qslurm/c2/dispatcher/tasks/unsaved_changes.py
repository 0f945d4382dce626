"""Changes that are not stored yet, as statements for the store, each with its journal entry."""

from __future__ import annotations

import msgspec

from qslurm.c2.dispatcher.tasks.task import Execution, Task
from qslurm.c2.store import statements
from qslurm.c2.store.statements import Statement
from qslurm.c2.store.task_states import ExecutionState
from qslurm.protocol.messages import Executed


class Changes(list[Statement]):
    """Oldest first. `at` is Unix time."""

    def task_begun(self, task: Task) -> None:
        """A task was admitted."""
        self.append(statements.insert_task(task.row()))
        self.append(statements.insert_journal_entry(task.admitted_at, task.id, None, task.state))

    def task_started(self, task: Task, at: float) -> None:
        """A task runs."""
        self.append(statements.update_task(task.id, state=task.state, started_at=at))
        self.append(statements.insert_journal_entry(at, task.id, None, task.state))

    def task_ended(self, task: Task, at: float) -> None:
        """A task ended; its envelope is deleted."""
        self.append(
            statements.update_task(
                task.id,
                state=task.state,
                reason=task.reason,
                reason_code=task.reason_code,
                finished_at=at,
                final_result=task.final_result,
                envelope=None,
            )
        )
        self.append(statements.insert_journal_entry(at, task.id, None, task.state, task.reason))

    def execution_queued(self, execution: Execution, at: float) -> None:
        """An execution was queued."""
        task, seq, state = execution.task, execution.seq, execution.state
        sha256, shots = execution.circuit_sha256, execution.circuit.shots
        self.append(statements.insert_execution(task, seq, circuit_sha256=sha256, shots=shots, state=state))
        self.append(statements.insert_journal_entry(at, task, seq, state))

    def execution_moved(self, execution: Execution, at: float) -> None:
        """An execution changed its state, without an outcome."""
        self.append(statements.update_execution(execution.task, execution.seq, execution.state))
        self.append(statements.insert_journal_entry(at, execution.task, execution.seq, execution.state))

    def execution_ended(self, task: int, outcome: Executed, state: ExecutionState, at: float) -> None:
        """An execution has its outcome."""
        raw_data = outcome.raw_data
        self.append(
            statements.end_execution(
                task,
                outcome.seq,
                state=state,
                shots_done=outcome.shots_done,
                counts=msgspec.json.encode(outcome.counts).decode(),
                raw_data=None if raw_data is None else msgspec.json.encode(raw_data).decode(),
                seconds=outcome.seconds,
                reason=outcome.error,
                error_kind=outcome.kind,
            )
        )
        self.append(statements.insert_journal_entry(at, task, outcome.seq, state, outcome.error))

    def executed_by_lane(
        self, task: int, circuit_sha256: str, outcome: Executed, state: ExecutionState, at: float
    ) -> None:
        """An execution by lane has its outcome."""
        shots = outcome.shots_requested
        self.append(
            statements.insert_execution(
                task, outcome.seq, circuit_sha256=circuit_sha256, shots=shots, state=state
            )
        )
        self.execution_ended(task, outcome, state, at)
