"""The quantum runtimes of this host: worker processes that are started, watched, killed and replaced."""

from __future__ import annotations

import hmac
import itertools
import select
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from qslurm.c2.config.dispatcher_section import BackendConfig
from qslurm.errors import InvalidInputError
from qslurm.protocol.dispatcher_frames import RUNTIME_LIMIT, decode_request, encode
from qslurm.protocol.messages import Join, Lease, LeaseOver, Message, Report, Result
from qslurm.runtimes.health import Health
from qslurm.runtimes.interface import BackendType
from qslurm.runtimes.lanes.lane_channel import LaneChannel
from qslurm.runtimes.plugin import find_plugin
from qslurm.runtimes.quantum.pool_process import Place, Runtime, clear_away, start
from qslurm.runtimes.quantum.process_starter import UNLISTED, Starter
from qslurm.system.backoff import Backoff
from qslurm.system.child_process import ran_out_of_memory
from qslurm.system.event_log import EventLog

if TYPE_CHECKING:
    import zmq

log = EventLog(__name__)

REPLACEMENT_S = 10.0
"""A backend without any quantum runtime still takes jobs for so long: one that was killed is being replaced."""

JOIN_LIMIT_S = 30.0
"""A process that has not joined by then is replaced."""

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.2, 30.0  # before a start, after failed starts in a row

_SETTLED_S = 10.0
"""A process that ends sooner than this after it has joined, and was given nothing, has failed to start as well."""


class RuntimePool:
    """Keeps `workers` processes alive for each backend. `folder` is where endpoints are made for a moment.

    `logbooks` is the beginning of the logbooks' paths (None: they need not outlive this process).
    """

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        backends: Iterable[BackendConfig],
        folder: Path,
        *,
        limit_s: float,
        logbooks: str | None = None,
        numbers: Iterator[int] | None = None,
        starter: Starter | None = None,
    ) -> None:
        import zmq

        self.limit_s = limit_s
        self._logbooks = logbooks
        self.router = context.socket(zmq.ROUTER)
        self.router.linger = 0
        self.router.maxmsgsize = RUNTIME_LIMIT
        self.runtimes: dict[int, Runtime] = {}
        self.failures: dict[str, str] = {}  # backend -> why its last process ended
        self.backend_types: dict[str, BackendType] = {}  # as the processes have last reported them
        self._backends = {backend.name: backend for backend in backends}
        self._folder = folder
        self._starter = starter
        self._starts = {name: Backoff(_FIRST_PAUSE_S, _LONGEST_PAUSE_S) for name in self._backends}
        self._not_before = dict.fromkeys(self._backends, 0.0)
        self._numbers = numbers or itertools.count(1)
        self._not_stored: list[LaneChannel] = []  # of those that have ended
        # An epoll forgets a descriptor that is closed. One that a poller still knows by its number would stand for
        # whatever gets that number next.
        self._ends = select.epoll()
        self.ear = self._ends.fileno()

    def fill(self, now: float) -> None:
        """Start what is missing, unless it failed a moment ago."""
        for name, backend in self._backends.items():
            missing = backend.workers - sum(
                1 for runtime in self.runtimes.values() if runtime.backend == name
            )
            for _ in range(missing):
                if now >= self._not_before[name]:
                    self._start(backend, now)

    def hear(self) -> list[Result | LeaseOver]:
        """Take in what the processes say; each of them is idle after that."""
        import zmq

        results: list[Result | LeaseOver] = []
        while True:
            try:
                frames = self.router.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return results
            message = self._take_in(frames)
            if isinstance(message, Result | LeaseOver):
                results.append(message)

    def idle(self) -> list[Runtime]:
        """The processes that wait for work and can do it, in the order they were started."""
        idle = [r for r in self.runtimes.values() if r.address is not None and not r.killed_because]
        return [r for r in idle if r.health.ready]

    def joined(self, backend: str) -> int:
        """How many processes of a backend are alive and have joined."""
        return sum(1 for r in self.runtimes.values() if r.backend == backend and r.joined)

    def health(self, backend: str) -> Health | None:
        """How a backend's target is by the best of its processes' reports; None if none has joined."""
        reports = [r.health for r in self.runtimes.values() if r.backend == backend and r.joined]
        return min(reports, key=lambda health: not health.ready, default=None)

    def send(
        self,
        runtime: Runtime,
        message: Message,
        now: float,
        *,
        left_s: float = float("inf"),
        used_up: str = "",
    ) -> None:
        """Give an idle process its next circuit; after `left_s` it is ended, because of `used_up`."""
        if runtime.address is None:
            raise ValueError(f"runtime {runtime.number} is not idle")
        self.router.send_multipart([runtime.address, b"", encode(message)])
        runtime.address = None
        runtime.used = True
        runtime.deadline = now + min(left_s, self.limit_s)
        runtime.late = used_up if left_s < self.limit_s else self.too_slow

    @property
    def too_slow(self) -> str:
        """What is said of a circuit that takes longer than any may."""
        return f"The circuit exceeded its time limit of {self.limit_s:g} s"

    def lend(self, number: int, lease: Lease, descriptors: list[int]) -> None:
        """Give an idle process lanes to serve (their descriptors); LeaseOver follows, or its end."""
        runtime = self.runtimes[number]
        if runtime.address is None:
            raise ValueError(f"runtime {number} is not idle")
        try:
            runtime.lanes.send_lanes(descriptors)
        except OSError as error:
            log.debug("lease rejected by its runtime", runtime=number, why=str(error))
            return  # it is about to be found dead
        self.router.send_multipart([runtime.address, b"", encode(lease)])
        runtime.address = None
        runtime.deadline = float("inf")
        runtime.used = True

    def kill_overdue(self, now: float) -> None:
        """Kill what works for longer than it may, or has not joined in time."""
        for runtime in list(self.runtimes.values()):
            if runtime.address is None and now >= runtime.deadline:
                self.kill(runtime.number, runtime.late if runtime.joined else "It did not connect in time")

    def kill(self, number: int, why: str) -> None:
        """End a process at once; `lost` follows when it has ended."""
        runtime = self.runtimes.get(number)
        if runtime is not None and not runtime.killed_because:
            runtime.killed_because = why
            runtime.address = None
            runtime.process.kill()

    def ended(self) -> list[Runtime]:
        """The processes that have ended and are not forgotten yet; `ear` can be polled for them."""
        over = {descriptor for descriptor, _ in self._ends.poll(0)}
        return [runtime for runtime in self.runtimes.values() if runtime.pidfd in over]

    def failed_starts(self, backend: str) -> int:
        """How many processes of a backend have ended in a row without having been of any use."""
        return self._starts[backend].failures

    def dead(self, runtime: Runtime) -> str:
        """Why a process has ended, as the beginning of a sentence. `forget` it once its logbook has been read."""
        status = runtime.process.wait()
        how = f"signal {-status}" if status < 0 else f"exit status {status}"
        tail = runtime.last_words
        if runtime.joined and ran_out_of_memory(tail):
            runtime.killed_because = "The circuit needs more memory than its quantum runtime has"
        why = runtime.killed_because or f"The circuit crashed its quantum runtime ({how})"
        self._note_end(runtime, how, tail)
        return why

    def next_event(self) -> float:
        """When `fill` or `kill_overdue` has something to do next (monotonic seconds)."""
        times = [r.deadline for r in self.runtimes.values() if r.address is None]
        for name, backend in self._backends.items():
            if sum(1 for r in self.runtimes.values() if r.backend == name) < backend.workers:
                times.append(self._not_before[name])
        return min(times, default=float("inf"))

    def close(self, before_forgetting: Callable[[], None]) -> None:
        """End every process, and leave nothing behind; logbooks can be read until `before_forgetting` returns."""
        for runtime in self.runtimes.values():
            runtime.process.kill()
        for runtime in self.runtimes.values():
            runtime.process.wait()
        before_forgetting()
        for runtime in list(self.runtimes.values()):
            self.forget(runtime)
        self._ends.close()
        self.router.close()

    def _start(self, backend: BackendConfig, now: float) -> None:
        import zmq

        place = Place(self.router, self._folder, self.limit_s, self._logbooks)
        if self._starter is not None and getattr(find_plugin(backend.runtime), "confined", False):
            place = replace(place, folder=self._folder / UNLISTED, starter=self._starter)
        number = next(self._numbers)
        try:
            runtime = start(number, backend, place, now + JOIN_LIMIT_S)
        except (OSError, zmq.ZMQError) as error:  # no process, descriptor or memory more, for now
            self._note_failed_start(backend.name, error.strerror or str(error))
            return
        self.runtimes[number] = runtime
        self._ends.register(runtime.pidfd, select.EPOLLIN)

    def _take_in(self, frames: list[bytes]) -> Message | None:
        try:
            address, _, body, secret = frames
            message = decode_request(body)
        except (ValueError, InvalidInputError):
            log.warning("malformed message from a quantum runtime")
            return None
        if not isinstance(message, Join | Report | Result | LeaseOver):
            return None
        runtime = self.runtimes.get(message.runtime)
        if runtime is None or not hmac.compare_digest(runtime.secret, secret):
            log.warning("message from an unknown quantum runtime ignored", runtime=message.runtime)
            return None
        if isinstance(message, Report):
            self._note_report(runtime, message)
            return message
        if isinstance(message, Join):
            runtime.joined_at = time.monotonic()
            self.failures.pop(runtime.backend, None)
            shutil.rmtree(runtime.folder)
        if not runtime.killed_because:
            runtime.address = address
        return message

    def _note_report(self, runtime: Runtime, report: Report) -> None:
        if report.health != runtime.health:
            health = report.health
            log.info(
                "target reports",
                backend=runtime.backend,
                runtime=runtime.number,
                state=health.state,
                why=health.reason,
            )
        runtime.health = report.health
        if report.backend_type is not None:
            self.backend_types[runtime.backend] = report.backend_type

    def _note_end(self, runtime: Runtime, how: str, tail: str) -> None:
        backend, why = runtime.backend, runtime.killed_because or how
        log.warning("quantum runtime ended", backend=backend, runtime=runtime.number, why=why)
        if runtime.used or (runtime.joined and time.monotonic() - runtime.joined_at > _SETTLED_S):
            self._starts[backend].succeed()
            self._not_before[backend] = time.monotonic()
            return
        if runtime.joined and not self._starts[backend].failures:  # somebody may have killed it
            self._starts[backend].fail()
            return
        self._note_failed_start(backend, tail.strip().rsplit("\n", 1)[-1] or why)

    def _note_failed_start(self, backend: str, why: str) -> None:
        self.failures[backend] = f"its quantum runtime cannot start: {why.rstrip('.')}"
        log.error("cannot start a quantum runtime", backend=backend, why=self.failures[backend])
        self._not_before[backend] = time.monotonic() + self._starts[backend].fail()

    def stored(self) -> None:
        """What those have executed that have been forgotten is stored."""
        for lanes in self._not_stored:
            lanes.discard()
        self._not_stored.clear()

    def forget(self, runtime: Runtime) -> None:
        """A process has ended, and nobody needs anything of it until what it has executed is stored."""
        del self.runtimes[runtime.number]
        self._not_stored.append(runtime.lanes)
        clear_away(runtime, self.router)
