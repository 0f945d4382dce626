"""The quantum runtimes of this host and of other hosts together."""

from __future__ import annotations

from qslurm.c2.dispatcher.pool.remote_pool import RemoteRuntimePool
from qslurm.runtimes.health import Health
from qslurm.runtimes.interface import BackendType
from qslurm.runtimes.quantum.pool import RuntimePool


class AllRuntimes:
    """The state of all runtimes of each backend."""

    def __init__(self, pool: RuntimePool, remotes: RemoteRuntimePool | None) -> None:
        self._pool = pool
        self._remotes = remotes

    @property
    def failures(self) -> dict[str, str]:
        """Backends whose runtimes on this host cannot start, and why."""
        return self._pool.failures

    @property
    def backend_types(self) -> dict[str, BackendType]:
        """The backends' types, as last reported by runtimes."""
        return self._pool.backend_types | ({} if self._remotes is None else self._remotes.backend_types)

    def joined(self, backend: str) -> int:
        """The number of connected runtimes of a backend."""
        return self._pool.joined(backend) + (0 if self._remotes is None else self._remotes.joined(backend))

    def health(self, backend: str) -> Health | None:
        """The best health that a backend's runtimes report; None if there is no report."""
        here = self._pool.health(backend)
        there = None if self._remotes is None else self._remotes.health(backend)
        return there if here is None or (there is not None and not here.ready) else here
