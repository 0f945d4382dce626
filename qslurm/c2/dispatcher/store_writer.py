"""Commits the registry's changes to the store, and retries while that fails."""

from __future__ import annotations

from qslurm.c2.dispatcher.tasks.task_registry import TaskRegistry
from qslurm.system.event_log import EventLog

log = EventLog(__name__)

_RETRY_S = (0.2, 0.5, 1.0, 2.0, 5.0)  # between attempts


class StoreWriter:
    """Commits all changes of a task registry at once. Times are monotonic seconds."""

    def __init__(self, registry: TaskRegistry) -> None:
        self._registry = registry
        self._failures = 0
        self._retry_at = 0.0

    def commit(self, now: float, *, at_once: bool = False) -> bool:
        """Store all changes; False if that failed, or failed before and the next attempt is not due.

        `registry.store_error` has the reason while that lasts. `at_once` does not wait for the next attempt.
        """
        registry = self._registry
        if not registry.changes:
            return True
        if registry.store_error and now < self._retry_at and not at_once:
            return False
        began = registry.timer()
        error = registry.store.commit(registry.changes, sync=registry.changes_must_sync)
        registry.counters.observe("store_commit_seconds", registry.timer() - began)
        self._note(error, now)
        if not error:
            registry.stored()
        return not error

    def next_event(self) -> float:
        """When the next attempt is due."""
        return self._retry_at if self._registry.changes else float("inf")

    def _note(self, error: str, now: float) -> None:
        if error:
            self._registry.counters.add("store_failures")
            self._retry_at = now + _RETRY_S[min(self._failures, len(_RETRY_S) - 1)]
            self._failures += 1
            if not self._registry.store_error:
                log.error("cannot write to the store; new jobs wait", why=error)
        elif self._registry.store_error:
            log.warning("store is writable again")
            self._failures = 0
        self._registry.store_error = error
