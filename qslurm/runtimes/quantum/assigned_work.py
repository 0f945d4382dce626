"""The work that a remote dispatcher has assigned to this host's quantum runtimes.

Executions go on while the connection is broken, and results are kept until the dispatcher has stored them.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from qslurm.errors import UsedUpError
from qslurm.protocol.messages import OrderResult
from qslurm.protocol.messages.remote_runtimes import Assign, Claim, Enlisted, RemoteResult
from qslurm.runtimes.health import Health, TryLaterError
from qslurm.runtimes.interface import BackendType
from qslurm.runtimes.quantum.pool import REPLACEMENT_S, RuntimePool
from qslurm.runtimes.quantum.pool_process import Runtime, temporary_folder

if TYPE_CHECKING:
    import zmq


@dataclass(frozen=True)
class _Running:
    """An assignment that a worker process executes, and since when."""

    number: int
    assigned: Assign
    since: float


class AssignedWork:
    """Executes assignments; `send` is called with each result. `poller` polls its processes."""

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        poller: zmq.Poller,
        instance: bytes,
        send: Callable[[RemoteResult], None],
    ) -> None:
        self._context = context
        self._poller = poller
        self._instance = instance
        self._send = send
        self._welcome: Enlisted | None = None
        self._pool: RuntimePool | None = None
        self._last_ready = float("-inf")
        self._waiting: deque[Assign] = deque()
        self._running: dict[int, _Running] = {}  # by order
        self._results: dict[int, RemoteResult] = {}

    def begin(self, welcome: Enlisted) -> None:
        """Apply the dispatcher's reply to an enlistment; the processes are restarted if their configuration has
        changed.
        """
        import zmq

        for order in welcome.drop:
            self.drop(order)
        previous, self._welcome = self._welcome, welcome
        wanted = (welcome.backend, welcome.workers, welcome.execution_limit_s)
        if previous is not None and wanted == (
            previous.backend,
            previous.workers,
            previous.execution_limit_s,
        ):
            return
        self.close()
        for running in list(self._running.values()):
            self._finish(running.assigned.claim, _lost("The quantum runtime was restarted"))
        backend = msgspec.structs.replace(welcome.backend, workers=welcome.workers)
        limit_s = welcome.execution_limit_s
        self._pool = RuntimePool(self._context, [backend], temporary_folder(), limit_s=limit_s)
        for source in (self._pool.router, self._pool.ended_fd):
            self._poller.register(source, zmq.POLLIN)

    def take(self, assigned: Assign) -> None:
        """Execute an assignment as soon as a process is idle."""
        self._waiting.append(assigned)

    def taken(self, order: int) -> None:
        """The dispatcher has stored a result: drop it."""
        self._results.pop(order, None)

    def resend_results(self) -> None:
        """Send all results that the dispatcher has not acknowledged."""
        for answer in self._results.values():
            self._send(answer)

    def drop(self, order: int) -> None:
        """Drop an assignment, and kill its process if it is executing."""
        self._results.pop(order, None)
        self._waiting = deque(assign for assign in self._waiting if assign.claim.order != order)
        running = self._running.pop(order, None)
        if running is not None and self._pool is not None:
            self._pool.kill(running.number, "The execution was withdrawn")

    def claims(self) -> list[Claim]:
        """All assignments that are waiting, executing, or finished and not acknowledged."""
        claims = [assign.claim for assign in self._waiting]
        claims += [running.assigned.claim for running in self._running.values()]
        return claims + [answer.claim for answer in self._results.values()]

    @property
    def backend_type(self) -> BackendType | None:
        """The backend, as its processes describe it."""
        if self._pool is None or self._welcome is None:
            return None
        return self._pool.backend_types.get(self._welcome.backend.name)

    def health(self) -> Health:
        """The target's health."""
        if self._pool is None or self._welcome is None:
            return Health("offline", "its quantum runtime is starting")
        backend = self._welcome.backend.name
        health = self._pool.health(backend)
        if health is not None:
            self._last_ready = time.monotonic()
            return health
        if time.monotonic() < self._last_ready + REPLACEMENT_S and backend not in self._pool.failures:
            return Health()
        return Health("offline", self._pool.failures.get(backend, "its quantum runtime is starting"))

    def fill(self, now: float) -> None:
        """Start missing processes."""
        if self._pool is not None:
            self._pool.fill(now)

    def next_event(self) -> float:
        """When `fill` or `process_events` has something to do next (monotonic seconds)."""
        return float("inf") if self._pool is None else self._pool.next_event()

    def process_events(self) -> None:
        """Process the messages and ends of processes, and send idle ones waiting assignments."""
        pool = self._pool
        if pool is None:
            return
        for result in pool.receive():
            if isinstance(result, OrderResult) and result.order in self._running:
                self._finish(self._running[result.order].assigned.claim, result)
        for runtime in pool.ended():
            self._runtime_ended(pool, runtime)
        now = time.monotonic()
        pool.kill_overdue(now)
        for runtime in pool.idle():
            if self._waiting:
                assigned = self._waiting.popleft()
                self._running[assigned.claim.order] = _Running(runtime.number, assigned, time.monotonic())
                pool.send(runtime, assigned.run, now, left_s=assigned.left_s, used_up=assigned.used_up)

    def close(self) -> None:
        """End the processes; assignments are kept."""
        pool, self._pool = self._pool, None
        if pool is None:
            return
        for source in (pool.router, pool.ended_fd):
            self._poller.unregister(source)
        pool.close(lambda: None)

    def _finish(self, claim: Claim, result: OrderResult) -> None:
        self._running.pop(claim.order, None)
        answer = RemoteResult(instance=self._instance, claim=claim, result=result)
        self._results[claim.order] = answer
        self._send(answer)

    def _runtime_ended(self, pool: RuntimePool, runtime: Runtime) -> None:
        why = pool.end_reason(runtime)
        pool.remove(runtime)
        for running in list(self._running.values()):
            if running.number == runtime.number:
                self._finish(
                    running.assigned.claim, _ended(running, why) if runtime.killed_because else _lost(why)
                )


def _ended(running: _Running, why: str) -> OrderResult:
    """The result of an execution whose process was killed for what it did."""
    kind = UsedUpError.kind if why == running.assigned.used_up else "job_failed"
    seconds = time.monotonic() - running.since
    return OrderResult(runtime=0, order=0, error=f"{why}.", kind=kind, seconds=seconds)


def _lost(why: str) -> OrderResult:
    """The result of an execution that was lost; it counts as a try, and is tried once more."""
    return OrderResult(runtime=0, order=0, error=f"{why}.", kind=TryLaterError.kind, begun=True)
