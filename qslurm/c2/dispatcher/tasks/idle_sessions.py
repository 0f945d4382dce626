"""Ends sessions that nobody uses: the client has left without a word, or computes for longer than it said."""

from __future__ import annotations

from qslurm.c2.dispatcher.tasks.task_registry import TaskRegistry
from qslurm.c2.store.task_states import TaskState, is_open
from qslurm.reason_codes import ReasonCode

COMING_S = 60.0
"""How long a client may take to come, once its job has started: it has to notice first."""

LIMIT_S = 300.0
"""Of a session that says none."""


class IdleSessions:
    """Since when nothing was asked of each session. Times are monotonic seconds."""

    def __init__(self, registry: TaskRegistry) -> None:
        self._registry = registry
        self._since: dict[int, float] = {}  # by task

    def begin(self, task_id: int, now: float) -> None:
        """A session is open, from now on or still."""
        if task_id not in self._since:
            self._since[task_id] = now + max(0.0, COMING_S - self._limit_s(task_id))

    def used(self, task_id: int, now: float) -> None:
        """Something was asked, or has come out."""
        if task_id in self._since:
            self._since[task_id] = now

    def look(self, now: float) -> None:
        """End those that have waited too long. What executes is no idleness, nor what has come out just now."""
        for task_id, _, _ in self._registry.settled:
            self.used(task_id, now)
        for task_id, since in list(self._since.items()):
            task = self._registry.tasks.get(task_id)
            if task is None or not is_open(task.state):
                del self._since[task_id]
            elif task.executions:
                self._since[task_id] = now
            elif now - since >= (limit := self._limit_s(task_id)):
                del self._since[task_id]
                reason = f"The session was idle for {limit:g} s, its idle limit."
                self._registry.end(task, TaskState.TIMED_OUT, reason, ReasonCode.IDLE_LIMIT)

    def next_event(self) -> float:
        """When `look` may have something to end."""
        times = (since + self._limit_s(task_id) for task_id, since in self._since.items())
        return min(times, default=float("inf"))

    def _limit_s(self, task_id: int) -> float:
        task = self._registry.tasks.get(task_id)
        envelope = None if task is None else task.job.envelope
        return LIMIT_S if envelope is None or envelope.idle_limit_s is None else envelope.idle_limit_s
