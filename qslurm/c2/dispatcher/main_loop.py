"""The dispatcher's main loop: one thread with one poll.

A plain poll loop rather than asyncio: the loop owns the task registry and the store, so nothing has to be locked. Each
round receives requests, assigns circuits to idle quantum runtimes, stores all changes in one transaction (a group
commit), and sends replies after that. It also starts faster. Slow work (munged, checking a job's circuit) is done by
worker threads.
"""

from __future__ import annotations

import itertools
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from qslurm.c2.config.dispatcher_section import RemoteConfig, SessionsConfig
from qslurm.c2.dispatcher.authenticated_requests import AuthenticatedRequests
from qslurm.c2.dispatcher.backend_status import Backends
from qslurm.c2.dispatcher.listeners.listeners import Listeners, SignedRequest
from qslurm.c2.dispatcher.listeners.session_server import SessionServer
from qslurm.c2.dispatcher.pool import assignment
from qslurm.c2.dispatcher.pool.all_runtimes import AllRuntimes
from qslurm.c2.dispatcher.pool.remote_pool import RemoteRuntimePool
from qslurm.c2.dispatcher.reading_queue import ReadJob
from qslurm.c2.dispatcher.replies import Replies
from qslurm.c2.dispatcher.status_views import StatusViews
from qslurm.c2.dispatcher.step_requests import StepRequests
from qslurm.c2.dispatcher.store_writer import StoreWriter
from qslurm.c2.dispatcher.tasks import step_sessions
from qslurm.c2.dispatcher.tasks.idle_sessions import IdleSessions
from qslurm.c2.dispatcher.tasks.lane_tasks import RegisteredTasks
from qslurm.c2.dispatcher.tasks.task_registry import TaskRegistry
from qslurm.c2.dispatcher.worker_threads import WorkerThreads
from qslurm.errors import QslurmError
from qslurm.protocol.messages import (
    END,
    Admit,
    Attach,
    Attend,
    Await,
    Begin,
    Conclude,
    End,
    Execute,
    Finish,
    GetEnds,
    GetMetrics,
    GetStatus,
    LeaseOver,
    Message,
    Refused,
    Release,
    Reserve,
    SetBackend,
)
from qslurm.runtimes.lanes.leases import Leases
from qslurm.runtimes.quantum.pool import RuntimePool
from qslurm.runtimes.quantum.pool_process import Runtime
from qslurm.runtimes.quantum.process_starter import Starter
from qslurm.system.event_log import EventLog
from qslurm.wire.credentials import Identity

if TYPE_CHECKING:
    import socket

    import zmq

log = EventLog(__name__)

_IDLE_S = 10.0
_PROGRESS_S = 5.0  # between two progress messages to a session's client about a waiting circuit


@dataclass(frozen=True)
class DispatcherLimits:
    """`trusted` uids may send administrative requests. After `starts` failed starts of a quantum runtime in a row the
    dispatcher gives up (None: never; the backend is offline meanwhile).

    With `only_own_job`, requests about a job are accepted only from processes of that Slurm job on this host.
    """

    trusted: frozenset[int]
    execution_limit_s: float
    starts: int | None = None
    only_own_job: bool = False


class Dispatcher:
    """Serves until `stop` is called. `read` finds errors in a job's data (None: it is not checked)."""

    def __init__(
        self,
        registry: TaskRegistry,
        identity: Identity,
        limits: DispatcherLimits,
        *,
        context: zmq.Context[zmq.Socket[bytes]],
        folder: Path,
        read: ReadJob | None,
        logbooks: str | None = None,
        remote: RemoteConfig | None = None,
        sessions: SessionsConfig | None = None,
        starter: Starter | None = None,
    ) -> None:
        import zmq

        self._listeners = Listeners(  # first: its port may be in use
            limits.trusted | {0, os.getuid()},
            _session_server(sessions, registry),
            only_own_job=limits.only_own_job,
        )
        self._registry = registry
        self._limits = limits
        limit_s, numbers = limits.execution_limit_s, itertools.count(1)
        self._pool = RuntimePool(
            context,
            registry.backends.values(),
            folder,
            limit_s=limit_s,
            logbooks=logbooks,
            numbers=numbers,
            starter=starter,
        )
        self._remotes = (
            RemoteRuntimePool(context, registry, remote, limit_s=limit_s, numbers=numbers) if remote else None
        )
        self._all_runtimes = AllRuntimes(self._pool, self._remotes)
        self._leases = Leases(RegisteredTasks(registry), self._pool, self._listeners.send_lane)
        self._idle = IdleSessions(registry)
        self._backends = Backends(registry, self._leases.in_use)
        self._replies = Replies(self._listeners.send)
        self._threads = WorkerThreads()
        self._store_writer = StoreWriter(registry)
        self._stopping = False
        self._step_requests = StepRequests(
            registry,
            leases=self._leases,
            idle=self._idle,
            replies=self._replies,
            send=self._listeners.send,
            is_of_job=self._listeners.is_of_job,
        )
        self._authenticated_requests = AuthenticatedRequests(
            registry,
            identity,
            limits.trusted,
            threads=self._threads,
            backends=self._backends,
            all_runtimes=self._all_runtimes,
            views=StatusViews(registry, self._all_runtimes, self._backends, self._leases),
            replies=self._replies,
            send=self._listeners.send,
            owner=self._listeners.owner,
            is_of_job=self._listeners.is_of_job,
            read=read,
        )
        self._poller = zmq.Poller()
        for source in (
            self._pool.router,
            self._pool.ended_fd,
            self._threads.fileno,
            *self._listeners.filenos,
        ):
            self._poller.register(source, zmq.POLLIN)
        for source in self._remotes.sources if self._remotes else ():
            self._poller.register(source, zmq.POLLIN)

    def listen(self, path: str) -> None:
        """Accept requests at a Unix socket with this path."""
        self._listeners.listen(path)

    def bind_remote(self) -> str:
        """Accept quantum runtimes on other hosts, if configured; returns the address, or ""."""
        return self._remotes.bind() if self._remotes else ""

    @property
    def sessions_address(self) -> str:
        """Where clients of sessions connect, or ""."""
        return self._listeners.sessions_address

    def add_connection(self, connection: socket.socket) -> None:
        """Accept requests over this connection as well; only before `run`."""
        self._listeners.add_connection(connection)

    @property
    def wake_fd(self) -> int:
        """A descriptor that wakes the loop when a byte is written to it (for signal.set_wakeup_fd)."""
        return self._threads.wake_fd

    def stop(self) -> None:
        """Make `run` return; from any thread, or from a signal handler."""
        self._stopping = True
        self._threads.wake()

    def run(self) -> None:
        """Serve. When it returns, every runtime's process has ended and all that could be stored is stored.

        QslurmError if a quantum runtime failed to start as often as `DispatcherLimits.starts` allows.
        """
        try:
            while not self._stopping:
                self._run_once()
        finally:
            self._pool.close(self._leases.close)
            self._store(time.monotonic())
            self._threads.close()
            if self._remotes is not None:
                self._remotes.close()
            self._listeners.close()

    def _run_once(self) -> None:
        self._pool.fill(time.monotonic())
        self._give_up_if_nothing_starts()
        ready = dict(self._poller.poll(self._poll_timeout_ms()))
        self._leases.read()
        if ready.pop(self._threads.fileno, None):
            self._threads.run_callbacks()
        if ready.pop(self._pool.router, None):
            self._receive_from_runtimes()
        for request, message in self._listeners.socket_requests(ready):
            self._dispatch(request, message)
        for address, task, body in self._listeners.session_messages(ready):
            self._step_requests.handle_session_message(address, task, body)
        if self._remotes is not None:
            self._serve_remotes(self._remotes)
        for runtime in self._pool.ended() if ready.pop(self._pool.ended_fd, None) else ():
            self._runtime_died(runtime)
        now = time.monotonic()
        self._pool.kill_overdue(now)
        self._idle.end_overdue(now)
        self._assign()
        self._store(now)
        self._leases.check(now)
        self._backends.update(self._all_runtimes)
        for runtime in self._pool.idle():
            self._leases.lend(runtime, now)
        for (task, seq), waiting in self._replies.expired(now):
            self._listeners.send(waiting, step_sessions.pending(self._registry, task, seq))
            if self._listeners.is_session_client(waiting):
                self._replies.wait(
                    (task, seq), waiting, now, _PROGRESS_S
                )  # it gets progress without a new request

    def _poll_timeout_ms(self) -> int:
        if self._listeners.has_buffered:
            return 0
        now = time.monotonic()
        parts = (self._replies, self._pool, self._registry, self._store_writer, self._idle)
        first = min(
            now + _IDLE_S,
            self._listeners.check(now),
            self._leases.next_event(now),
            *(part.next_event() for part in parts),
        )
        if self._remotes is not None:
            first = min(first, self._remotes.next_event())
        return max(0, int((first - now) * 1000) + 1)

    # --- requests ------------------------------------------------------------------------------------

    def _dispatch(self, request: SignedRequest, message: Message) -> None:
        match message:
            case GetStatus():
                self._authenticated_requests.handle_status(request, message)
            case GetMetrics():
                self._authenticated_requests.handle_metrics(request)
            case Execute() | Await() | Conclude() | Attend():
                self._step_requests.handle_step_request(request, message)
            case (
                Admit()
                | Finish()
                | GetEnds()
                | SetBackend()
                | Reserve()
                | Release()
                | Attach()
                | Begin()
                | End()
            ):
                self._authenticated_requests.handle(request, message)
            case _:
                self._listeners.send(
                    request.address,
                    Refused(kind="permission", reason="This request is not accepted on this socket."),
                )

    # --- quantum runtimes ----------------------------------------------------------------------------

    def _assign(self) -> None:
        for number in self._registry.runtimes_to_kill:
            self._pool.kill(number, "The execution was withdrawn")
        if self._remotes is not None:
            self._remotes.drop(self._registry.runtimes_to_kill)
        self._registry.runtimes_to_kill.clear()
        for runtime in self._pool.idle():
            run = assignment.assign(self._registry, runtime.backend, runtime.number)
            if run is not None:
                left_s, used_up = assignment.left_s(self._registry, run.order)
                self._pool.send(runtime, run, time.monotonic(), left_s=left_s, used_up=used_up)
        if self._remotes is not None:
            self._remotes.assign()

    def _serve_remotes(self, remotes: RemoteRuntimePool) -> None:
        now = time.monotonic()
        remotes.receive(now)
        remotes.check(now)

    def _receive_from_runtimes(self) -> None:
        now = time.monotonic()
        for message in self._pool.receive():
            if isinstance(message, LeaseOver):
                self._step_requests.resume(self._leases.lease_over(message))
                continue
            task = assignment.take_result(self._registry, message)
            if task is not None:
                self._leases.note_served(task, self._pool.runtimes[message.runtime], now)

    def _give_up_if_nothing_starts(self) -> None:
        for backend, why in self._pool.failures.items():
            if self._limits.starts is not None and self._pool.failed_starts(backend) >= self._limits.starts:
                raise QslurmError(f"Backend {backend} is offline: {why}.")

    def _runtime_died(self, runtime: Runtime) -> None:
        why = self._pool.end_reason(runtime)
        fail = bool(runtime.killed_because)
        self._registry.counters.add("runtimes_lost", runtime.backend)
        assignment.lost(self._registry, runtime.number, why, fail=fail)
        tasks = self._leases.runtime_ended(runtime, why, fail=fail)
        self._pool.remove(runtime)
        self._step_requests.resume(tasks)

    # --- storing and replying ------------------------------------------------------------------------

    def _store(self, now: float) -> None:
        """Store all changes, then send the replies that report them."""
        registry, store_failed = self._registry, bool(self._registry.store_error)
        self._notify_ended_sessions(now)
        self._replies.settle(registry.settled, now)
        registry.settled.clear()
        if not self._store_writer.commit(now, at_once=self._stopping):
            self._replies.defer(registry.store_error_message(), now)
            return
        self._pool.discard_logbooks()
        if store_failed and not registry.store_error:
            self._threads.wake()  # waiting executions may start
        self._replies.send_held()
        registry.counters.replies_sent(registry.timer())
        if self._remotes is not None:
            self._remotes.confirm(now)

    def _notify_ended_sessions(self, now: float) -> None:
        """Tell clients of sessions at centers that their session has ended."""
        for task, seq, message in self._registry.settled:
            address = self._listeners.address_of(task) if seq == END else None
            if address is not None:
                self._replies.hold(address, message, now, to_step=True)


def _session_server(config: SessionsConfig | None, registry: TaskRegistry) -> SessionServer | None:
    if config is None:
        return None
    return SessionServer(
        config,
        authenticate=lambda secret: step_sessions.session_of_secret(registry, secret),
        is_open=lambda task: task in registry.tasks,
    )
