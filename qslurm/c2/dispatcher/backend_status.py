"""The state of each backend, and since when."""

from __future__ import annotations

import time
from collections.abc import Callable

from qslurm.c2.dispatcher.pool import assignment
from qslurm.c2.dispatcher.pool.all_runtimes import AllRuntimes
from qslurm.c2.dispatcher.tasks.task_registry import TaskRegistry
from qslurm.protocol.messages import BackendStatus, Done, Message, Refused, SetBackend
from qslurm.runtimes.health import Health
from qslurm.runtimes.quantum.pool import REPLACEMENT_S
from qslurm.system.event_log import EventLog

log = EventLog(__name__)

STATES = ("idle", "executing", "calibrating", "offline")
"""The states of a backend."""


class Backends:
    """The backends' states. `is_busy` says whether a backend executes something by lane."""

    def __init__(self, registry: TaskRegistry, is_busy: Callable[[str], bool]) -> None:
        self._registry = registry
        self._is_busy = is_busy
        self.started = registry.clock()
        self._switched_off = {
            row["name"]: row["reason"] for row in registry.store.backends() if row["offline"]
        }
        self._states: dict[str, tuple[str, float]] = {}
        self._last_joined = dict.fromkeys(registry.backends, float("-inf"))  # monotonic

    def set(self, message: SetBackend) -> Message:
        """An operator sets a backend offline or online."""
        if message.backend not in self._registry.backends:
            return Refused(
                kind="invalid_input",
                reason=f"Unknown backend {message.backend!r}. Available: {', '.join(self._registry.backends)}.",
            )
        self._switched_off.pop(message.backend, None)
        if not message.online:
            self._switched_off[message.backend] = message.reason
        state = "online" if message.online else "offline"
        log.info("backend set", backend=message.backend, state=state, why=message.reason)
        self._registry.set_backend(message.backend, offline=not message.online, reason=message.reason)
        return Done()

    def update(self, all_runtimes: AllRuntimes) -> None:
        """Update the states, and the unavailable backends of the task registry."""
        self._registry.backend_types.update(all_runtimes.backend_types)
        unavailable = self._registry.unavailable
        for name in self._registry.backends:
            health = self._health(name, all_runtimes)
            if health.ready:
                unavailable.pop(name, None)
            else:
                unavailable[name] = f"Backend {name} is {health.state}: {health.reason}."
            busy = health.ready and (self._executing(name) or self._is_busy(name))
            state = "executing" if busy else health.state
            if self._states.get(name, ("", 0.0))[0] != state:
                self._states[name] = (state, self._registry.clock())

    def all(self, all_runtimes: AllRuntimes) -> list[BackendStatus]:
        """The status of every backend, as of the last `update`."""
        return [self._backend(name, all_runtimes) for name in self._registry.backends]

    def _backend(self, name: str, all_runtimes: AllRuntimes) -> BackendStatus:
        config = self._registry.backends[name]
        state, since = self._states[name]
        queued, executing = assignment.load(self._registry, name)
        return BackendStatus(
            name=name,
            state=state,
            reason=self._health(name, all_runtimes).reason,
            since=since,
            qubits=config.qubits,
            max_shots=config.max_shots,
            default_shots=config.default_shots,
            runtimes=all_runtimes.joined(name),
            queued=queued,
            executing=executing,
            policy=config.policy,
        )

    def _executing(self, name: str) -> bool:
        return assignment.load(self._registry, name)[1] > 0

    def _health(self, name: str, all_runtimes: AllRuntimes) -> Health:
        if name in self._switched_off:
            return Health("offline", self._switched_off[name] or "taken offline by an operator")
        reported = all_runtimes.health(name)
        if reported is not None:
            self._last_joined[name] = time.monotonic()
            return reported
        if time.monotonic() < self._last_joined[name] + REPLACEMENT_S and name not in all_runtimes.failures:
            return Health()
        starting = self._registry.backends[name].workers > 0
        why = "its quantum runtime is starting" if starting else "no quantum runtime connected"
        return Health("offline", all_runtimes.failures.get(name, why))
