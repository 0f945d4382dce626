"""The agent's server: authenticates users' requests, over a Unix socket and, from compute nodes, TCP.

It uses asyncio: most requests wait for a thread, for a change or for memory, and a coroutine says so in one line.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec

from qslurm.c1.agent.change_log import ENDINGS, of_job, of_user
from qslurm.c1.agent.client_connections import (
    SMALL_BYTES,
    ClientConnection,
    ClientConnections,
    TooManyConnectionsError,
    max_connections,
)
from qslurm.c1.agent.releaser_requests import NOT_ENDED
from qslurm.c1.agent.request_handler import RequestHandler
from qslurm.c1.agent.user import User, user_of
from qslurm.c1.connection.agent_messages import (
    MAX_REQUEST_BYTES,
    AgentRequest,
    AgentResponse,
    Answered,
    ChangedJobs,
    GetAgentStatus,
    GetChangedJobs,
    GetIdentity,
    GetJob,
    GetOutcomes,
    GetReleaser,
    GetTasks,
    Outcomes,
    Submit,
    Unbind,
    encode,
    request_decoder,
)
from qslurm.errors import InvalidInputError, QslurmError
from qslurm.protocol.job_changes import visible_state
from qslurm.system.event_log import EventLog
from qslurm.system.notifier import Notifier, within
from qslurm.wire.failures import Failed, failure
from qslurm.wire.frames import OVERHEAD, SIGNED_SLACK, frame, open_signed, read_head
from qslurm.wire.peer import peer_uid

if TYPE_CHECKING:
    from qslurm.slurm.job_info import JobInfo
    from qslurm.wire.credentials import Identity

log = EventLog(__name__)

C2_THREADS = 12
"""Maximum concurrent requests to C2."""

LOCAL_THREADS = 4
"""Threads for requests that do not need C2, and for MUNGE."""

FIRST_REQUEST_S = 10.0
"""Time-out in seconds of the first request of an unauthenticated connection."""

IDLE_S = 600.0
REQUEST_S = 30.0
"""Time-out in seconds of a request, from its first byte."""

RESPONSE_S = 300.0
"""Time-out in seconds for the client to read a response."""

CLOSE_S = 10.0
"""The same while the connection is closed."""

MAX_WAIT_S = 30.0
"""Maximum seconds that a request waits for a change."""

OUTCOMES_PAUSE_S = 0.5
"""Minimum seconds between two evaluations of one GetOutcomes."""

LOCAL_REQUESTS = Submit | GetChangedJobs | Unbind | GetReleaser | GetAgentStatus
"""Requests that are answered without C2."""

Authentication = int | Callable[[bytes, bytes], int]
"""A connection's uid, or the function that verifies each request's credential and body."""


class AgentServer:
    """Serves requests until it is closed. `munge` verifies the credentials of TCP clients."""

    def __init__(self, handler: RequestHandler, notifier: Notifier, munge: Identity) -> None:
        self._handler = handler
        self._notifier = notifier
        self._munge = munge
        self._threads = {
            pool: ThreadPoolExecutor(number, thread_name_prefix=pool)
            for pool, number in (("c2", C2_THREADS), ("local", LOCAL_THREADS), ("munge", LOCAL_THREADS))
        }
        self._connections = ClientConnections(max_connections())

    def close(self) -> None:
        """Wait for the requests in progress."""
        for threads in self._threads.values():
            threads.shutdown()

    async def serve_local(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve a local client, authenticated by the kernel (SO_PEERCRED)."""
        uid = peer_uid(writer.get_extra_info("socket"))
        await self._serve(reader, writer, f"uid {uid}", uid, is_authenticated=True)

    async def serve_remote(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve a client on a compute node; MUNGE authenticates each request."""
        host = str((writer.get_extra_info("peername") or ("",))[0])
        await self._serve(reader, writer, f"host {host}", self._munge.verify, is_authenticated=False)

    async def _serve(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        owner: str,
        authentication: Authentication,
        *,
        is_authenticated: bool,
    ) -> None:
        connection: ClientConnection | None = None
        try:
            connection = self._connections.add(owner, writer, is_authenticated=is_authenticated)
            while (signed := await self._next_request(reader, connection)) is not None:
                await self._reply(connection, signed, authentication)
                if not connection.is_authenticated:
                    return
        except TooManyConnectionsError:
            pass  # logged once per owner
        except (OSError, TimeoutError, EOFError, QslurmError) as error:
            log.info("connection closed", client=owner, reason=str(error) or type(error).__name__)
        finally:
            writer.close()
            with suppress(OSError, TimeoutError):
                async with asyncio.timeout(CLOSE_S):
                    await writer.wait_closed()
            writer.transport.abort()  # drop a response that the client does not read
            if connection is not None:  # counts until the socket is closed
                self._connections.remove(connection)

    async def _reply(
        self, connection: ClientConnection, signed: list[bytes], authentication: Authentication
    ) -> None:
        """Handle a request and send its response."""
        response = await self._answer(connection, signed, authentication)
        try:
            body = encode(response)
        except RecursionError:
            body = encode(failure(QslurmError("The response is nested too deeply.")))
        connection.writer.write(frame(connection.number, body))
        async with asyncio.timeout(RESPONSE_S):
            await connection.writer.drain()
        connection.release_memory()

    async def _answer(
        self, connection: ClientConnection, signed: list[bytes], authentication: Authentication
    ) -> AgentResponse:
        user: User | None = None
        request: AgentRequest | None = None
        try:
            body, credential = signed.pop(), signed.pop()
            user = await self._user(connection, authentication, credential, body)
            request = _decoded(body)
            del body
            response: AgentResponse = Answered(await self._result(connection, user, request))
        except TooManyConnectionsError:
            raise
        except RecursionError:
            response = failure(InvalidInputError("The payload is nested too deeply."))
        except QslurmError as error:
            response = failure(error)
        except Exception as error:  # noqa: BLE001 -- a bug must not end the connection; the user is told where to look
            log.crashed("a request failed", error, request=type(request).__name__)
            response = Failed(
                "unexpected", "The center's agent failed.", "See the agent's log; tell the center's admins."
            )
        if not isinstance(
            request, GetIdentity | GetJob | GetChangedJobs | GetOutcomes | GetReleaser
        ) or isinstance(response, Failed):
            _audit(user, request, response)
        return response

    async def _user(
        self, connection: ClientConnection, authentication: Authentication, credential: bytes, body: bytes
    ) -> User:
        """Authenticate a request; the connection counts as this user's from now on."""
        self._connections.authenticating(connection)
        if isinstance(authentication, int):
            uid = authentication
        else:
            uid = await self._in_pool(connection, "munge", authentication, credential, body)
        if connection.user is None or connection.user.uid != uid:
            connection.user = user_of(uid)
            self._connections.authenticated_as(connection, f"uid {uid}")
        return connection.user

    async def _result(self, connection: ClientConnection, user: User, request: AgentRequest) -> Any:
        """The response to a request; one with `patience_s` waits for a change until then."""
        pool = "local" if isinstance(request, LOCAL_REQUESTS) else "c2"
        handle = partial(self._in_pool, connection, pool, self._handler.answer, user, request)
        match request:
            case Submit(key=key, patience_s=patience_s):
                with self._notifier.listening(("submission", key)) as event:
                    submission = await handle()
                    request.payload = {}
                    connection.release_memory()
                    self._notifier.notify(ENDINGS)
                    if submission.state == "waiting" and await within(event, min(patience_s, MAX_WAIT_S)):
                        if isinstance(event.value, QslurmError):
                            raise event.value
                        submission = event.value
                    return submission
            case GetTasks(waits_for=job_id, seen=seen, patience_s=patience_s) if seen:
                with self._notifier.listening(of_job(job_id)) as event:
                    tasks: list[JobInfo] = await handle()
                    if any(task.job_id == job_id and visible_state(task) == seen for task in tasks):
                        del tasks  # an array has many; free them while waiting
                        await within(event, min(patience_s, MAX_WAIT_S))
                        await self._connections.reserve_memory(connection)
                        tasks = await handle()
                    return tasks
            case GetChangedJobs(patience_s=patience_s):
                with self._notifier.listening(of_user(user.name)) as event:
                    changed: ChangedJobs = await handle()
                    is_new = changed.jobs or changed.missed
                    if not is_new and await within(event, min(patience_s, MAX_WAIT_S)):
                        changed = await handle()
                    return changed
            case GetOutcomes():
                return await self._outcomes(request, handle)
            case _:
                if pool == "c2":
                    await self._connections.reserve_memory(connection)
                return await handle()

    async def _outcomes(self, request: GetOutcomes, handle: Callable[[], Awaitable[Outcomes]]) -> Outcomes:
        loop = asyncio.get_running_loop()
        until = loop.time() + min(request.patience_s, MAX_WAIT_S)
        with self._notifier.listening(ENDINGS) as event:
            while True:
                event.clear()
                found = await handle()
                if found.news != request.news or any(one.how not in NOT_ENDED for one in found.endings):
                    return found
                if not await within(event, max(0.0, until - loop.time())):
                    return found
                await asyncio.sleep(OUTCOMES_PAUSE_S)

    async def _in_pool(
        self, connection: ClientConnection, pool: str, call: Callable[..., Any], *arguments: object
    ) -> Any:
        async with self._connections.thread(connection, pool):
            return await asyncio.get_running_loop().run_in_executor(self._threads[pool], call, *arguments)

    async def _next_request(
        self, reader: asyncio.StreamReader, connection: ClientConnection
    ) -> list[bytes] | None:
        """Credential and body of the next request; None at the end."""
        try:
            async with asyncio.timeout(IDLE_S if connection.is_authenticated else FIRST_REQUEST_S):
                head = await reader.readexactly(OVERHEAD)
        except asyncio.IncompleteReadError as error:
            if error.partial:
                raise
            return None
        connection.number, size = read_head(head, MAX_REQUEST_BYTES + SIGNED_SLACK)
        if size > SMALL_BYTES:
            await self._connections.reserve_memory(connection)
        async with asyncio.timeout(REQUEST_S):
            signed = open_signed(await reader.readexactly(size))
        return [signed.credential, signed.body]


def _decoded(body: bytes) -> AgentRequest:
    try:
        return request_decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidInputError(
            f"The center's agent cannot read this request: {error}.",
            hint="Install the same version of qslurm on this host and the agent's.",
        ) from error


def _audit(user: User | None, request: AgentRequest | None, response: AgentResponse) -> None:
    """Log a request: user, type, job, error."""
    log.info(
        "request",
        user=user.name if user else None,
        what=type(request).__name__ if request else "?",
        job=getattr(request, "job_id", None),
        key=getattr(request, "key", None),
        refused=response.kind if isinstance(response, Failed) else None,
    )
