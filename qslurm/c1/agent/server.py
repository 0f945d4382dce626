"""Accepts and authenticates users' requests, over a Unix socket and, from compute nodes, TCP."""

from __future__ import annotations

import asyncio
import os
import pwd
import resource
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec

from qslurm.c1.agent.change_log import ENDINGS, of_job, of_user
from qslurm.c1.agent.connections import MOST_CONNECTIONS, SMALL, Connection, Connections, TooManyError
from qslurm.c1.agent.endings import OPEN
from qslurm.c1.agent.request_handler import RequestHandler
from qslurm.c1.agent.user import User
from qslurm.c1.connection.agent_messages import (
    LARGEST_QUESTION,
    Answer,
    Answered,
    Endings,
    GetEndings,
    GetJob,
    GetMoved,
    GetStatus,
    GetTasks,
    Hello,
    LetGo,
    Moved,
    Question,
    Submit,
    WhoReleases,
    encode,
    questions,
)
from qslurm.errors import InvalidInputError, PermissionDeniedError, QslurmError
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

THREADS = 12
"""Maximum concurrent requests to C2."""

LOCAL_THREADS = 4
"""Threads for requests that do not need C2, and for MUNGE."""

FIRST_S = 10.0
"""Seconds for the first request of an unauthenticated connection."""

IDLE_S = 600.0
READ_S = 30.0
"""Seconds for a request to arrive, once it has begun."""

TAKE_S = 300.0
"""Seconds for an answer to be received."""

CLOSE_S = 10.0
"""Seconds for the last answer to be received when a connection closes."""

LONGEST_PATIENCE_S = 30.0

QUIET_S = 0.5
"""Minimum seconds between two evaluations of the releaser's request."""

SPARE_FILES = 256
"""File descriptors reserved for C2, the outbox, and munge."""

LOCAL = Submit | GetMoved | LetGo | WhoReleases | GetStatus
"""Requests that are answered without C2."""

Who = int | Callable[[bytes, bytes], int]
"""The user of a connection: the kernel's uid, or authenticated by each request's credential."""


class Server:
    """The agent's server. `munge` checks credentials of TCP clients."""

    def __init__(self, desk: RequestHandler, bell: Notifier, munge: Identity) -> None:
        self._desk = desk
        self._bell = bell
        self._munge = munge
        self._threads = {
            kind: ThreadPoolExecutor(number, thread_name_prefix=kind)
            for kind, number in (("c2", THREADS), ("local", LOCAL_THREADS), ("munge", LOCAL_THREADS))
        }
        self._guests = Connections(_most_connections())

    def close(self) -> None:
        """Let current requests finish."""
        for threads in self._threads.values():
            threads.shutdown()

    async def by_socket(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """A local client, authenticated by the kernel."""
        uid = peer_uid(writer.get_extra_info("socket"))
        await self._converse(reader, writer, f"uid {uid}", uid, is_known=True)

    async def by_network(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """A client on a compute node; MUNGE authenticates each request."""
        host = str((writer.get_extra_info("peername") or ("",))[0])
        await self._converse(reader, writer, f"host {host}", self._munge.verify, is_known=False)

    async def _converse(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        whose: str,
        who: Who,
        *,
        is_known: bool,
    ) -> None:
        guest: Connection | None = None
        try:
            guest = self._guests.enter(whose, writer, is_known=is_known)
            while (asked := await self._question(reader, guest)) is not None:
                await self._settle(guest, asked, who)
                if not guest.is_known:
                    return
        except TooManyError:
            pass  # it is said once, not for each
        except (OSError, TimeoutError, EOFError, QslurmError) as error:
            log.info("hung up", whence=whose, reason=str(error) or type(error).__name__)
        finally:
            writer.close()
            with suppress(OSError, TimeoutError):
                async with asyncio.timeout(CLOSE_S):
                    await writer.wait_closed()
            writer.transport.abort()  # what nobody takes must not be kept for ever
            if guest is not None:  # it counts until its connection is gone
                self._guests.leave(guest)

    async def _settle(self, guest: Connection, asked: list[bytes], who: Who) -> None:
        """Answer a request and send the answer."""
        answer = await self._answer(guest, asked, who)
        try:
            body = encode(answer)
        except RecursionError:
            body = encode(failure(QslurmError("The answer is nested too deeply.")))
        guest.writer.write(frame(guest.number, body))
        async with asyncio.timeout(TAKE_S):
            await guest.writer.drain()
        guest.is_done()

    async def _answer(self, guest: Connection, asked: list[bytes], who: Who) -> Answer:
        user: User | None = None
        question: Question | None = None
        try:
            body, credential = asked.pop(), asked.pop()
            user = await self._user(guest, who, credential, body)
            question = _read(body)
            del body
            answer: Answer = Answered(await self._settled(guest, user, question))
        except TooManyError:
            raise
        except RecursionError:
            answer = failure(InvalidInputError("The payload is nested too deeply."))
        except QslurmError as error:
            answer = failure(error)
        except Exception as error:  # noqa: BLE001 -- a bug must not end the agent; the user is told where to look
            log.crashed("a request failed", error, asked=type(question).__name__)
            answer = Failed(
                "unexpected", "The center's agent failed.", "See the agent's log; tell the center's admins."
            )
        if not isinstance(question, Hello | GetJob | GetMoved | GetEndings | WhoReleases) or isinstance(
            answer, Failed
        ):
            _audit(user, question, answer)
        return answer

    async def _user(self, guest: Connection, who: Who, credential: bytes, body: bytes) -> User:
        """The authenticated user, who owns the connection from now on."""
        self._guests.has_asked(guest)
        uid = who if isinstance(who, int) else await self._in_thread(guest, "munge", who, credential, body)
        user = user_of(uid)
        self._guests.known_as(guest, f"uid {user.uid}")
        return user

    async def _settled(self, guest: Connection, user: User, question: Question) -> Any:
        """Answer a request; with `patience_s`, once there is news or time is up."""
        kind = "local" if isinstance(question, LOCAL) else "c2"
        ask = partial(self._in_thread, guest, kind, self._desk.answer, user, question)
        match question:
            case Submit(key=key, patience_s=patience_s):
                with self._bell.listening(("submission", key)) as event:
                    submission = await ask()
                    question.payload = {}
                    guest.is_done()
                    self._bell.ring(ENDINGS)
                    if submission.state == "waiting" and await within(
                        event, min(patience_s, LONGEST_PATIENCE_S)
                    ):
                        submission = await self._in_thread(guest, kind, self._desk.intake.how_is, key)
                    return submission
            case GetTasks(waits_for=job_id, seen=seen, patience_s=patience_s) if seen:
                with self._bell.listening(of_job(job_id)) as event:
                    tasks: list[JobInfo] = await ask()
                    if any(task.job_id == job_id and visible_state(task) == seen for task in tasks):
                        del tasks  # of an array they are many, and nobody needs them while nothing changes
                        await within(event, min(patience_s, LONGEST_PATIENCE_S))
                        await self._guests.large(guest)
                        tasks = await ask()
                    return tasks
            case GetMoved(patience_s=patience_s):
                with self._bell.listening(of_user(user.name)) as event:
                    moved: Moved = await ask()
                    is_new = moved.jobs or moved.missed
                    if not is_new and await within(event, min(patience_s, LONGEST_PATIENCE_S)):
                        moved = await ask()
                    return moved
            case GetEndings():
                return await self._endings(question, ask)
            case _:
                if kind == "c2":
                    await self._guests.large(guest)
                return await ask()

    async def _endings(self, question: GetEndings, ask: Callable[[], Awaitable[Endings]]) -> Endings:
        loop = asyncio.get_running_loop()
        until = loop.time() + min(question.patience_s, LONGEST_PATIENCE_S)
        with self._bell.listening(ENDINGS) as event:
            while True:
                event.clear()
                found = await ask()
                if found.news != question.news or any(one.how not in OPEN for one in found.endings):
                    return found
                if not await within(event, max(0.0, until - loop.time())):
                    return found
                await asyncio.sleep(QUIET_S)

    async def _in_thread(
        self, guest: Connection, kind: str, call: Callable[..., Any], *arguments: object
    ) -> Any:
        async with self._guests.turn(guest, kind):
            return await asyncio.get_running_loop().run_in_executor(self._threads[kind], call, *arguments)

    async def _question(self, reader: asyncio.StreamReader, guest: Connection) -> list[bytes] | None:
        """Credential and body of the next request; None at the end."""
        try:
            async with asyncio.timeout(IDLE_S if guest.is_known else FIRST_S):
                head = await reader.readexactly(OVERHEAD)
        except asyncio.IncompleteReadError as error:
            if error.partial:
                raise
            return None
        guest.number, size = read_head(head, LARGEST_QUESTION + SIGNED_SLACK)
        if size > SMALL:
            await self._guests.large(guest)
        async with asyncio.timeout(READ_S):
            signed = open_signed(await reader.readexactly(size))
        return [signed.credential, signed.body]


def user_of(uid: int) -> User:
    """The user with this uid; PermissionDeniedError if unknown on this host."""
    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError as error:
        raise PermissionDeniedError(
            f"Unknown uid {uid} on this host.", hint="Tell the center's admins."
        ) from error
    return User(name, uid, admin=uid in (0, os.getuid()))


def _read(body: bytes) -> Question:
    try:
        return questions.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidInputError(
            f"The center's agent cannot read this request: {error}.",
            hint="Install the same version of qslurm on this host and the agent's.",
        ) from error


def _most_connections() -> int:
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MOST_CONNECTIONS if files == resource.RLIM_INFINITY else min(MOST_CONNECTIONS, files - SPARE_FILES)


def _audit(user: User | None, question: Question | None, answer: Answer) -> None:
    """Log each request that changes or shows something: user, request, job, outcome."""
    log.info(
        "asked",
        user=user.name if user else None,
        what=type(question).__name__ if question else "?",
        job=getattr(question, "job_id", None),
        key=getattr(question, "key", None),
        refused=answer.kind if isinstance(answer, Failed) else None,
    )
