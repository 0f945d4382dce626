"""Stores what has changed, and keeps trying while the store takes nothing."""

from __future__ import annotations

from qslurm.c2.dispatcher.tasks.task_registry import TaskRegistry
from qslurm.system.event_log import EventLog

log = EventLog(__name__)

_RETRY_S = (0.2, 0.5, 1.0, 2.0, 5.0)  # between attempts


class StoreWriter:
    """Brings a task registry's changes into its store, all at once. Times are monotonic seconds."""

    def __init__(self, registry: TaskRegistry) -> None:
        self._registry = registry
        self._failures = 0
        self._again = 0.0

    def commit(self, now: float, *, at_once: bool = False) -> bool:
        """Store all changes; False if they are not stored, because it failed or it is too early to try again.

        While that lasts, `registry.trouble` says why.
        """
        registry = self._registry
        if not registry.changes:
            return True
        if registry.trouble and now < self._again and not at_once:
            return False
        began = registry.timer()
        trouble = registry.store.commit(registry.changes, last=registry.changes_must_last)
        registry.counters.observe("store_commit_seconds", registry.timer() - began)
        self._note(trouble, now)
        if not trouble:
            registry.stored()
        return not trouble

    def next_event(self) -> float:
        """When to try again."""
        return self._again if self._registry.changes else float("inf")

    def _note(self, trouble: str, now: float) -> None:
        if trouble:
            self._registry.counters.add("store_failures")
            self._again = now + _RETRY_S[min(self._failures, len(_RETRY_S) - 1)]
            self._failures += 1
            if not self._registry.trouble:
                log.error("cannot write to the store; new jobs wait", why=trouble)
        elif self._registry.trouble:
            log.warning("store is writable again")
            self._failures = 0
        self._registry.trouble = trouble
