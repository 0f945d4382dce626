"""All quantum runtimes of a platform as one: those of this host, and those of others."""

from __future__ import annotations

from qslurm.c2.dispatcher.pool.remote_pool import RemoteRuntimePool
from qslurm.runtimes.health import Health
from qslurm.runtimes.interface import BackendType
from qslurm.runtimes.quantum.pool import RuntimePool


class AllRuntimes:
    """What is to be said of backends, wherever they are served."""

    def __init__(self, pool: RuntimePool, remotes: RemoteRuntimePool | None) -> None:
        self._pool = pool
        self._remotes = remotes

    @property
    def failures(self) -> dict[str, str]:
        """Why a backend's runtimes on this host can't start, where they can't."""
        return self._pool.failures

    @property
    def backend_types(self) -> dict[str, BackendType]:
        """As runtimes have last described their targets."""
        return self._pool.backend_types | ({} if self._remotes is None else self._remotes.backend_types)

    def joined(self, backend: str) -> int:
        """How many runtimes of a backend are there."""
        return self._pool.joined(backend) + (0 if self._remotes is None else self._remotes.joined(backend))

    def health(self, backend: str) -> Health | None:
        """How a backend's target is by the best of the reports; None if there is none."""
        here = self._pool.health(backend)
        there = None if self._remotes is None else self._remotes.health(backend)
        return there if here is None or (there is not None and not here.ready) else here
