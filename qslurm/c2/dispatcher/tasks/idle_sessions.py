"""Ends idle sessions: those whose client disappeared, or computes for longer than its idle limit."""

from __future__ import annotations

from qslurm.c2.dispatcher.tasks.task_registry import TaskRegistry
from qslurm.c2.store.task_states import TaskState, is_open
from qslurm.reason_codes import ReasonCode

CONNECT_S = 60.0
"""How long a client may take to connect after its job has started."""

LIMIT_S = 300.0
"""The idle limit of a session without one of its own."""


class IdleSessions:
    """When each session was used last. Times are monotonic seconds."""

    def __init__(self, registry: TaskRegistry) -> None:
        self._registry = registry
        self._used_at: dict[int, float] = {}  # by task

    def begin(self, task_id: int, now: float) -> None:
        """A session is open."""
        if task_id not in self._used_at:
            self._used_at[task_id] = now + max(0.0, CONNECT_S - self._limit_s(task_id))

    def used(self, task_id: int, now: float) -> None:
        """A request came for a session, or an outcome of it."""
        if task_id in self._used_at:
            self._used_at[task_id] = now

    def end_overdue(self, now: float) -> None:
        """End sessions beyond their idle limit. A session that executes, or just got an outcome, is not idle."""
        for task_id, _, _ in self._registry.settled:
            self.used(task_id, now)
        for task_id, since in list(self._used_at.items()):
            task = self._registry.tasks.get(task_id)
            if task is None or not is_open(task.state):
                del self._used_at[task_id]
            elif task.executions:
                self._used_at[task_id] = now
            elif now - since >= (limit := self._limit_s(task_id)):
                del self._used_at[task_id]
                reason = f"The session was idle for {limit:g} s, its idle limit."
                self._registry.end(task, TaskState.TIMED_OUT, reason, ReasonCode.IDLE_LIMIT)

    def next_event(self) -> float:
        """When `end_overdue` may have something to end."""
        times = (since + self._limit_s(task_id) for task_id, since in self._used_at.items())
        return min(times, default=float("inf"))

    def _limit_s(self, task_id: int) -> float:
        task = self._registry.tasks.get(task_id)
        envelope = None if task is None else task.job.envelope
        return LIMIT_S if envelope is None or envelope.idle_limit_s is None else envelope.idle_limit_s
