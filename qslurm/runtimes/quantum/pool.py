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
from qslurm.protocol.messages import Join, Lease, LeaseOver, Message, OrderResult, Report
from qslurm.runtimes.health import Health
from qslurm.runtimes.interface import BackendType
from qslurm.runtimes.lanes.lane_channel import LaneChannel
from qslurm.runtimes.plugin import find_plugin
from qslurm.runtimes.quantum.pool_process import Runtime, StartContext, clean_up, start
from qslurm.runtimes.quantum.process_starter import ENDPOINT_FOLDER, Starter
from qslurm.system.backoff import Backoff
from qslurm.system.child_process import ran_out_of_memory
from qslurm.system.event_log import EventLog

if TYPE_CHECKING:
    import zmq

log = EventLog(__name__)

REPLACEMENT_S = 10.0
"""A backend without any quantum runtime still accepts jobs for this long: a killed one is being replaced."""

JOIN_LIMIT_S = 30.0
"""A process that has not joined after this long is replaced."""

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.2, 30.0  # pause before a start, by the failed starts in a row

_SETTLED_S = 10.0
"""A process that ends sooner than this after it has joined, without having had work, counts as a failed start."""


class RuntimePool:
    """Keeps `workers` processes alive for each backend. `folder` is where endpoints are made for a moment.

    `logbooks` is the prefix of logbook paths (None: they need not outlive this process).
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
        self._ended_lanes: list[LaneChannel] = []  # of those that have ended
        # epoll forgets a closed descriptor. A zmq.Poller would keep its number,
        # which the next open file may get.
        self._end_poll = select.epoll()
        self.ended_fd = self._end_poll.fileno()

    def fill(self, now: float) -> None:
        """Start missing processes, except for backends whose last start has just failed."""
        for name, backend in self._backends.items():
            missing = backend.workers - sum(
                1 for runtime in self.runtimes.values() if runtime.backend == name
            )
            for _ in range(missing):
                if now >= self._not_before[name]:
                    self._start(backend, now)

    def receive(self) -> list[OrderResult | LeaseOver]:
        """Process the messages of the runtimes, and return their results."""
        import zmq

        results: list[OrderResult | LeaseOver] = []
        while True:
            try:
                frames = self.router.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return results
            message = self._process_message(frames)
            if isinstance(message, OrderResult | LeaseOver):
                results.append(message)

    def idle(self) -> list[Runtime]:
        """The processes that are ready for work, in the order of their start."""
        idle = [r for r in self.runtimes.values() if r.address is not None and not r.killed_because]
        return [r for r in idle if r.health.ready]

    def joined(self, backend: str) -> int:
        """The number of a backend's processes that are alive and have joined."""
        return sum(1 for r in self.runtimes.values() if r.backend == backend and r.joined)

    def health(self, backend: str) -> Health | None:
        """The best health that a backend's processes report; None if none has joined."""
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
        """Send an idle process its next circuit; after `left_s` it is killed, with `used_up` as the reason."""
        if runtime.address is None:
            raise ValueError(f"runtime {runtime.number} is not idle")
        self.router.send_multipart([runtime.address, b"", encode(message)])
        runtime.address = None
        runtime.used = True
        runtime.deadline = now + min(left_s, self.limit_s)
        runtime.deadline_reason = used_up if left_s < self.limit_s else self.time_limit_reason

    @property
    def time_limit_reason(self) -> str:
        """The reason of a circuit that exceeds the time limit."""
        return f"The circuit exceeded its time limit of {self.limit_s:g} s"

    def lend(self, number: int, lease: Lease, descriptors: list[int]) -> None:
        """Send an idle process lanes to serve (their descriptors); LeaseOver follows, or the process ends."""
        runtime = self.runtimes[number]
        if runtime.address is None:
            raise ValueError(f"runtime {number} is not idle")
        try:
            runtime.lanes.send_lanes(descriptors)
        except OSError as error:
            log.debug("lease rejected by its runtime", runtime=number, why=str(error))
            return  # the process has just ended
        self.router.send_multipart([runtime.address, b"", encode(lease)])
        runtime.address = None
        runtime.deadline = float("inf")
        runtime.used = True

    def kill_overdue(self, now: float) -> None:
        """Kill processes that exceed their deadline, or have not joined in time."""
        for runtime in list(self.runtimes.values()):
            if runtime.address is None and now >= runtime.deadline:
                self.kill(
                    runtime.number,
                    runtime.deadline_reason if runtime.joined else "It did not connect in time",
                )

    def kill(self, number: int, why: str) -> None:
        """Kill a process; `ended` returns it when it has ended."""
        runtime = self.runtimes.get(number)
        if runtime is not None and not runtime.killed_because:
            runtime.killed_because = why
            runtime.address = None
            runtime.process.kill()

    def ended(self) -> list[Runtime]:
        """The processes that have ended and are not removed yet; `ended_fd` can be polled for them."""
        ready_fds = {descriptor for descriptor, _ in self._end_poll.poll(0)}
        return [runtime for runtime in self.runtimes.values() if runtime.pidfd in ready_fds]

    def failed_starts(self, backend: str) -> int:
        """The number of failed starts in a row of a backend's processes."""
        return self._starts[backend].failures

    def end_reason(self, runtime: Runtime) -> str:
        """Why a process has ended, as the beginning of a sentence. `remove` it once its logbook has been read."""
        status = runtime.process.wait()
        how = f"signal {-status}" if status < 0 else f"exit status {status}"
        stderr_tail = runtime.stderr_tail
        if runtime.joined and ran_out_of_memory(stderr_tail):
            runtime.killed_because = "The circuit needs more memory than its quantum runtime has"
        why = runtime.killed_because or f"The circuit crashed its quantum runtime ({how})"
        self._note_end(runtime, how, stderr_tail)
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
            self.remove(runtime)
        self._end_poll.close()
        self.router.close()

    def _start(self, backend: BackendConfig, now: float) -> None:
        import zmq

        context = StartContext(self.router, self._folder, self.limit_s, self._logbooks)
        if self._starter is not None and getattr(find_plugin(backend.runtime), "confined", False):
            context = replace(context, folder=self._folder / ENDPOINT_FOLDER, starter=self._starter)
        number = next(self._numbers)
        try:
            runtime = start(number, backend, context, now + JOIN_LIMIT_S)
        except (OSError, zmq.ZMQError) as error:  # the host is short of processes, descriptors or memory
            self._note_failed_start(backend.name, error.strerror or str(error))
            return
        self.runtimes[number] = runtime
        self._end_poll.register(runtime.pidfd, select.EPOLLIN)

    def _process_message(self, frames: list[bytes]) -> Message | None:
        try:
            address, _, body, secret = frames
            message = decode_request(body)
        except (ValueError, InvalidInputError):
            log.warning("malformed message from a quantum runtime")
            return None
        if not isinstance(message, Join | Report | OrderResult | LeaseOver):
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

    def _note_end(self, runtime: Runtime, how: str, stderr_tail: str) -> None:
        backend, why = runtime.backend, runtime.killed_because or how
        log.warning("quantum runtime ended", backend=backend, runtime=runtime.number, why=why)
        if runtime.used or (runtime.joined and time.monotonic() - runtime.joined_at > _SETTLED_S):
            self._starts[backend].succeed()
            self._not_before[backend] = time.monotonic()
            return
        if runtime.joined and not self._starts[backend].failures:  # it may have been killed from outside
            self._starts[backend].fail()
            return
        self._note_failed_start(backend, stderr_tail.strip().rsplit("\n", 1)[-1] or why)

    def _note_failed_start(self, backend: str, why: str) -> None:
        self.failures[backend] = f"its quantum runtime cannot start: {why.rstrip('.')}"
        log.error("cannot start a quantum runtime", backend=backend, why=self.failures[backend])
        self._not_before[backend] = time.monotonic() + self._starts[backend].fail()

    def discard_logbooks(self) -> None:
        """Remove the logbooks of ended processes: their executions are stored."""
        for lanes in self._ended_lanes:
            lanes.discard()
        self._ended_lanes.clear()

    def remove(self, runtime: Runtime) -> None:
        """Remove a process that has ended; its logbook stays until its executions are stored."""
        del self.runtimes[runtime.number]
        self._ended_lanes.append(runtime.lanes)
        clean_up(runtime, self.router)
