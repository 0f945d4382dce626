"""Requests of job steps and of clients of sessions: circuits, their outcomes, final results."""

from __future__ import annotations

import time
from collections.abc import Callable

from qslurm.c2.dispatcher.listeners.listeners import SignedRequest
from qslurm.c2.dispatcher.replies import Replies
from qslurm.c2.dispatcher.tasks import step_sessions
from qslurm.c2.dispatcher.tasks.idle_sessions import IdleSessions
from qslurm.c2.dispatcher.tasks.task_registry import TaskRegistry
from qslurm.errors import InvalidInputError
from qslurm.protocol.dispatcher_frames import decode_request
from qslurm.protocol.messages import END, Attend, Await, Conclude, Execute, Message, Refused
from qslurm.runtimes.lanes.leases import Leases
from qslurm.wire.connection import Address, Connection

_UNKNOWN_SESSION = Refused(kind="session", reason="Unknown session. Attach again.")


class StepRequests:
    """Handles them. `send` replies at once; `replies` holds what must be stored before.

    `is_of_job` says whether a process of a job made a connection.
    """

    def __init__(
        self,
        registry: TaskRegistry,
        *,
        leases: Leases,
        idle: IdleSessions,
        replies: Replies,
        send: Callable[[Address, Message], None],
        is_of_job: Callable[[Connection, int], bool],
    ) -> None:
        self._registry = registry
        self._leases = leases
        self._idle = idle
        self._replies = replies
        self._send = send
        self._is_of_job = is_of_job
        self._after_lease: dict[int, list[tuple[Address, Execute]]] = {}

    def handle_step_request(
        self, request: SignedRequest, message: Execute | Await | Conclude | Attend
    ) -> None:
        """A request of a job's step; the credential is the secret of its session."""
        if not step_sessions.is_session(self._registry, message.task, request.credential):
            self._send(request.address, _UNKNOWN_SESSION)
        elif not self._is_of_job(request.address.connection, self._registry.tasks[message.task].job.job_id):
            self._send(
                request.address, step_sessions.another_job(self._registry.tasks[message.task].job.job_id)
            )
        elif isinstance(message, Attend):
            now = time.monotonic()
            self._idle.begin(message.task, now)
            self._replies.wait((message.task, END), request.address, now)
        else:
            self.handle_session_request(request.address, message)

    def handle_session_request(self, address: Address, message: Execute | Await | Conclude) -> None:
        """A request whose client is authenticated."""
        registry = self._registry
        if registry.store_error and not isinstance(message, Await):
            self._send(address, step_sessions.pending(registry, message.task, -1))
            return
        answer: Message | None
        if isinstance(message, Conclude):
            answer = step_sessions.conclude(registry, message)
        elif isinstance(message, Execute):
            if not self._leases.may_queue(message, self._lane_client(address, message)):
                self._after_lease.setdefault(message.task, []).append((address, message))
                return
            answer = step_sessions.execute(registry, message)
            if answer is None and not message.wait:
                answer = step_sessions.pending(registry, message.task, message.seq)
        else:
            answer = step_sessions.outcome(registry, message.task, message.seq)
        if answer is not None:
            self._answer(address, answer)
        elif not isinstance(message, Conclude):
            self._replies.wait((message.task, message.seq), address, time.monotonic())

    def resume(self, tasks: tuple[int, ...]) -> None:
        """A lease of these tasks has ended: handle the requests that waited for that."""
        for task in tasks:
            for address, message in self._after_lease.pop(task, []):
                if task in self._registry.tasks:
                    self.handle_session_request(address, message)
                else:
                    self._send(address, _UNKNOWN_SESSION)

    def handle_session_message(self, address: Address, task: int, body: bytes) -> None:
        """A request of a session's client at a center."""
        try:
            message: Message | None = decode_request(body)
        except InvalidInputError:
            message = None
        if not isinstance(message, Execute | Await | Conclude) or message.task != task:
            self._send(
                address, Refused(kind="permission", reason="This request is not accepted from a session.")
            )
        elif task not in self._registry.tasks:
            self._send(address, _UNKNOWN_SESSION)
        else:
            self._idle.used(task, time.monotonic())
            self.handle_session_request(address, message)

    def _lane_client(self, address: Address, message: Execute) -> Connection | None:
        """The connection of a job's step if it takes lanes; only over a Unix socket."""
        peer = address.connection.peer
        is_users = peer is not None and peer.uid == self._registry.tasks[message.task].job.uid
        return address.connection if message.lane and is_users else None

    def _answer(self, address: Address, message: Message) -> None:
        self._replies.hold(address, message, time.monotonic(), to_step=True)
