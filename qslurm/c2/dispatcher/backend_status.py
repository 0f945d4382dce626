"""How the backends are, and since when."""

from __future__ import annotations

import time

from qslurm.c2.dispatcher.pool import assignment
from qslurm.c2.dispatcher.pool.all_runtimes import AllRuntimes
from qslurm.c2.dispatcher.tasks.task_registry import TaskRegistry
from qslurm.protocol.messages import BackendStatus, Done, Message, Refused, SetBackend
from qslurm.runtimes.health import Health
from qslurm.runtimes.quantum.pool import REPLACEMENT_S
from qslurm.system.event_log import EventLog

log = EventLog(__name__)

STATES = ("idle", "executing", "calibrating", "offline")
"""The states that a backend can be in."""


class Backends:
    """Knows which backends can take jobs, and since when they are in the state they are in."""

    def __init__(self, ledger: TaskRegistry) -> None:
        self._ledger = ledger
        self.started = ledger.clock()
        self._switched_off = {row["name"]: row["reason"] for row in ledger.store.backends() if row["offline"]}
        self._states: dict[str, tuple[str, float]] = {}
        self._last_joined = dict.fromkeys(ledger.backends, float("-inf"))  # monotonic

    def set(self, message: SetBackend) -> Message:
        """An operator takes a backend out of service, or back in."""
        if message.backend not in self._ledger.backends:
            return Refused(kind="invalid_input", reason=f"There is no backend {message.backend!r} here.")
        self._switched_off.pop(message.backend, None)
        if not message.online:
            self._switched_off[message.backend] = message.reason
        state = "online" if message.online else "offline"
        log.info("backend set", backend=message.backend, state=state, why=message.reason)
        self._ledger.set_backend(message.backend, offline=not message.online, reason=message.reason)
        return Done()

    def look(self, fleet: AllRuntimes) -> None:
        """Bring the ledger's knowledge of what is available up to date."""
        self._ledger.backend_types.update(fleet.backend_types)
        unavailable = self._ledger.unavailable
        for name in self._ledger.backends:
            health = self._health(name, fleet)
            if health.ready:
                unavailable.pop(name, None)
            else:
                unavailable[name] = f"Backend {name} is {health.state}: {health.reason}."
            busy = health.ready and (self._executing(name) or fleet.in_lane(name))
            state = "executing" if busy else health.state
            if self._states.get(name, ("", 0.0))[0] != state:
                self._states[name] = (state, self._ledger.clock())

    def all(self, fleet: AllRuntimes) -> list[BackendStatus]:
        """Every backend, as it was at the last look."""
        return [self._backend(name, fleet) for name in self._ledger.backends]

    def _backend(self, name: str, fleet: AllRuntimes) -> BackendStatus:
        config = self._ledger.backends[name]
        state, since = self._states[name]
        queued, executing = assignment.load(self._ledger, name)
        return BackendStatus(
            name=name,
            state=state,
            reason=self._health(name, fleet).reason,
            since=since,
            qubits=config.qubits,
            max_shots=config.max_shots,
            default_shots=config.default_shots,
            runtimes=fleet.joined(name),
            queued=queued,
            executing=executing,
            policy=config.policy,
        )

    def _executing(self, name: str) -> bool:
        return assignment.load(self._ledger, name)[1] > 0

    def _health(self, name: str, fleet: AllRuntimes) -> Health:
        if name in self._switched_off:
            return Health("offline", self._switched_off[name] or "an operator has taken it out of service")
        reported = fleet.health(name)
        if reported is not None:
            self._last_joined[name] = time.monotonic()
            return reported
        if time.monotonic() < self._last_joined[name] + REPLACEMENT_S and name not in fleet.failures:
            return Health()
        starting = self._ledger.backends[name].workers > 0
        why = "its quantum runtime is starting" if starting else "no quantum runtime has joined"
        return Health("offline", fleet.failures.get(name, why))
