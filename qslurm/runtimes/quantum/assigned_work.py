"""What a quantum runtime on another host than the dispatcher's works on: its processes, and what it has been given.

What is executing goes on while the connection is broken, and what came out is kept until the dispatcher has it.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from qslurm.errors import UsedUpError
from qslurm.protocol.messages import Result
from qslurm.protocol.messages.remote_runtimes import Assign, Claim, Enlisted, RemoteResult
from qslurm.runtimes.health import Health, TryLaterError
from qslurm.runtimes.interface import BackendType
from qslurm.runtimes.quantum.pool import REPLACEMENT_S, RuntimePool
from qslurm.runtimes.quantum.pool_process import Runtime, temporary_folder

if TYPE_CHECKING:
    import zmq


@dataclass(frozen=True)
class _Running:
    """What a worker process executes, and since when."""

    number: int
    given: Assign
    since: float


class AssignedWork:
    """Executes what it is given; `tell` is called with each answer. `poller` gets to know its processes."""

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        poller: zmq.Poller,
        instance: bytes,
        tell: Callable[[RemoteResult], None],
    ) -> None:
        self._context = context
        self._poller = poller
        self._instance = instance
        self._tell = tell
        self._welcome: Enlisted | None = None
        self._pool: RuntimePool | None = None
        self._last_ready = float("-inf")
        self._waiting: deque[Assign] = deque()
        self._running: dict[int, _Running] = {}  # by order
        self._answers: dict[int, RemoteResult] = {}

    def begin(self, welcome: Enlisted) -> None:
        """The dispatcher has said what to do; the processes are started anew if that is not what it said before."""
        import zmq

        for order in welcome.drop:
            self.drop(order)
        known, self._welcome = self._welcome, welcome
        asked = (welcome.backend, welcome.workers, welcome.execution_limit_s)
        if known is not None and asked == (known.backend, known.workers, known.execution_limit_s):
            return
        self.close()
        for running in list(self._running.values()):
            self._answer(running.given.claim, _lost("The quantum runtime was restarted"))
        backend = msgspec.structs.replace(welcome.backend, workers=welcome.workers)
        limit_s = welcome.execution_limit_s
        self._pool = RuntimePool(self._context, [backend], temporary_folder(), limit_s=limit_s)
        for ear in (self._pool.router, self._pool.ear):
            self._poller.register(ear, zmq.POLLIN)

    def take(self, given: Assign) -> None:
        """Execute this, when a process is free."""
        self._waiting.append(given)

    def taken(self, order: int) -> None:
        """The dispatcher has stored an answer: it need not be kept here."""
        self._answers.pop(order, None)

    def tell_again(self) -> None:
        """Tell all answers that nobody has taken yet."""
        for answer in self._answers.values():
            self._tell(answer)

    def drop(self, order: int) -> None:
        """Nobody wants that any more."""
        self._answers.pop(order, None)
        self._waiting = deque(assign for assign in self._waiting if assign.claim.order != order)
        running = self._running.pop(order, None)
        if running is not None and self._pool is not None:
            self._pool.kill(running.number, "The execution was withdrawn")

    def claims(self) -> list[Claim]:
        """All that it has been given, and has not been rid of."""
        claims = [assign.claim for assign in self._waiting]
        claims += [running.given.claim for running in self._running.values()]
        return claims + [answer.claim for answer in self._answers.values()]

    @property
    def backend_type(self) -> BackendType | None:
        """The backend, as its processes describe it."""
        if self._pool is None or self._welcome is None:
            return None
        return self._pool.backend_types.get(self._welcome.backend.name)

    def health(self) -> Health:
        """How the target is."""
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
        """Start the processes that are missing."""
        if self._pool is not None:
            self._pool.fill(now)

    def next_event(self) -> float:
        """When `fill` or `look_after` has something to do next (monotonic seconds)."""
        return float("inf") if self._pool is None else self._pool.next_event()

    def look_after(self) -> None:
        """Take in what the processes say, and give them what waits."""
        pool = self._pool
        if pool is None:
            return
        for result in pool.hear():
            if isinstance(result, Result) and result.order in self._running:
                self._answer(self._running[result.order].given.claim, result)
        for runtime in pool.ended():
            self._lose(pool, runtime)
        now = time.monotonic()
        pool.kill_overdue(now)
        for runtime in pool.idle():
            if self._waiting:
                given = self._waiting.popleft()
                self._running[given.claim.order] = _Running(runtime.number, given, time.monotonic())
                pool.send(runtime, given.run, now, left_s=given.left_s, used_up=given.used_up)

    def close(self) -> None:
        """End the processes; what was given is kept in mind."""
        pool, self._pool = self._pool, None
        if pool is None:
            return
        for ear in (pool.router, pool.ear):
            self._poller.unregister(ear)
        pool.close(lambda: None)

    def _answer(self, claim: Claim, result: Result) -> None:
        self._running.pop(claim.order, None)
        answer = RemoteResult(instance=self._instance, claim=claim, result=result)
        self._answers[claim.order] = answer
        self._tell(answer)

    def _lose(self, pool: RuntimePool, runtime: Runtime) -> None:
        why = pool.dead(runtime)
        pool.forget(runtime)
        for running in list(self._running.values()):
            if running.number == runtime.number:
                self._answer(
                    running.given.claim, _ended(running, why) if runtime.killed_because else _lost(why)
                )


def _ended(running: _Running, why: str) -> Result:
    """Its process was ended, because of what it did."""
    kind = UsedUpError.kind if why == running.given.used_up else "job_failed"
    seconds = time.monotonic() - running.since
    return Result(runtime=0, order=0, error=f"{why}.", kind=kind, seconds=seconds)


def _lost(why: str) -> Result:
    """It counts as a try, and is tried once more."""
    return Result(runtime=0, order=0, error=f"{why}.", kind=TryLaterError.kind, begun=True)
