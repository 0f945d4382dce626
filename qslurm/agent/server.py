"""Takes users' questions from the Unix socket, and from compute nodes by TCP, and says who asks."""

from __future__ import annotations

import asyncio
import os
import pwd
import socket
import struct
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import msgspec

from qslurm.agent.desk import Desk, User
from qslurm.agent.endings import OPEN
from qslurm.agent.messages import (
    HEADER,
    LARGEST_CREDENTIAL,
    LARGEST_QUESTION,
    Answer,
    Answered,
    Endings,
    Failed,
    GetEndings,
    GetJob,
    Hello,
    Question,
    Submit,
    WhoReleases,
    encode,
    failure,
    questions,
)
from qslurm.agent.table import mark
from qslurm.bell import Bell, within
from qslurm.errors import InvalidInputError, PermissionDeniedError, QslurmError
from qslurm.eventlog import EventLog

if TYPE_CHECKING:
    from qslurm.dispatcher.credentials import Identity
    from qslurm.slurmrest import JobInfo

log = EventLog(__name__)

THREADS = 8
"""Questions that are put to C2 at a time."""

MOST_CONNECTIONS = 1024
MOST_OF_ONE_USER = 256
IDLE_S = 600.0
READ_S = 30.0
"""For a question to arrive, once it has begun."""

LONGEST_PATIENCE_S = 30.0

ENDINGS = "endings"
"""Rings when a job or a submission has changed, or something begins to depend on one."""

QUIET_S = 0.5
"""Between two looks at what the releaser asks for, however often that rings."""

Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Server:
    """One for the center. `munge` checks credentials of those who come by TCP."""

    def __init__(self, desk: Desk, bell: Bell, munge: Identity) -> None:
        self._desk = desk
        self._bell = bell
        self._munge = munge
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="desk")
        self._connections: Counter[str] = Counter()

    def close(self) -> None:
        """Let what is under way end."""
        self._threads.shutdown()

    async def by_socket(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Somebody on this host: the kernel says who."""
        peer: socket.socket = writer.get_extra_info("socket")
        _, uid, _ = struct.unpack("3i", peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        await self._converse((reader, writer), f"uid {uid}", lambda _credential, _body: uid)

    async def by_network(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Somebody on a compute node: MUNGE says who, for each question anew."""
        host = str((writer.get_extra_info("peername") or ("",))[0])
        await self._converse((reader, writer), f"host {host}", self._munge.verify)

    async def _converse(self, stream: Stream, whence: str, who: Callable[[bytes, bytes], int]) -> None:
        reader, writer = stream
        try:
            if self._connections.total() >= MOST_CONNECTIONS or self._connections[whence] >= MOST_OF_ONE_USER:
                return
            self._connections[whence] += 1
            try:
                while (asked := await _question(reader)) is not None:
                    writer.write(_frame(encode(await self._answer(*asked, who))))
                    await writer.drain()
            finally:
                self._connections[whence] -= 1
                self._connections += Counter()  # forget those that are zero
        except (OSError, TimeoutError, EOFError, QslurmError) as error:
            log.info("hung up", whence=whence, reason=str(error) or type(error).__name__)
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    async def _answer(self, credential: bytes, body: bytes, who: Callable[[bytes, bytes], int]) -> Answer:
        user: User | None = None
        question: Question | None = None
        try:
            user = user_of(await self._in_thread(who, credential, body))
            question = _read(body)
            answer: Answer = Answered(await self._settled(user, question))
        except QslurmError as error:
            answer = failure(error)
        except Exception as error:  # noqa: BLE001 -- a bug must not end the agent; the user is told where to look
            log.crashed("a question failed", error, asked=type(question).__name__)
            answer = Failed(
                "unexpected", "The center's agent failed.", "Its log says why: tell the center's admins."
            )
        if not isinstance(question, Hello | GetJob | GetEndings | WhoReleases) or isinstance(answer, Failed):
            _audit(user, question, answer)
        return answer

    async def _settled(self, user: User, question: Question) -> Any:
        """The answer to a question, when there is one that is worth it or the asker's patience has ended."""
        match question:
            case Submit(key=key, patience_s=patience_s):
                with self._bell.listening(("submission", key)) as event:
                    submission = await self._in_thread(self._desk.answer, user, question)
                    self._bell.ring(ENDINGS)
                    if submission.state == "waiting" and await within(
                        event, min(patience_s, LONGEST_PATIENCE_S)
                    ):
                        submission = await self._in_thread(self._desk.submission, key)
                    return submission
            case GetJob(job_id=job_id, seen=seen, patience_s=patience_s) if seen:
                with self._bell.listening(("job", job_id)) as event:
                    job: JobInfo = await self._in_thread(self._desk.answer, user, question)
                    if mark(job) == seen and await within(event, min(patience_s, LONGEST_PATIENCE_S)):
                        job = await self._in_thread(self._desk.answer, user, question)
                    return job
            case GetEndings():
                return await self._endings(user, question)
            case _:
                return await self._in_thread(self._desk.answer, user, question)

    async def _endings(self, user: User, question: GetEndings) -> Endings:
        loop = asyncio.get_running_loop()
        until = loop.time() + min(question.patience_s, LONGEST_PATIENCE_S)
        with self._bell.listening(ENDINGS) as event:
            while True:
                event.clear()
                found: Endings = await self._in_thread(self._desk.answer, user, question)
                if found.news != question.news or any(one.how not in OPEN for one in found.endings):
                    return found
                if not await within(event, max(0.0, until - loop.time())):
                    return found
                await asyncio.sleep(QUIET_S)

    async def _in_thread(self, call: Callable[..., Any], *arguments: object) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._threads, call, *arguments)


def user_of(uid: int) -> User:
    """The user with this uid; PermissionDeniedError if this host knows none."""
    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError as error:
        raise PermissionDeniedError(
            f"Nobody here has uid {uid}.", hint="Tell the center's admins."
        ) from error
    return User(name, uid, admin=uid in (0, os.getuid()))


def _read(body: bytes) -> Question:
    try:
        return questions.decode(body)
    except msgspec.DecodeError as error:
        raise InvalidInputError(
            f"The center's agent does not understand this question: {error}.",
            hint="Is qslurm on this host as new as the agent?",
        ) from error


async def _question(reader: asyncio.StreamReader) -> tuple[bytes, bytes] | None:
    """Credential and body of the next question; None when there is none any more."""
    try:
        async with asyncio.timeout(IDLE_S):
            size = await reader.readexactly(HEADER)
    except asyncio.IncompleteReadError as error:
        if error.partial:
            raise
        return None
    async with asyncio.timeout(READ_S):
        credential = await _body(reader, size, LARGEST_CREDENTIAL)
        return credential, await _body(reader, await reader.readexactly(HEADER), LARGEST_QUESTION)


async def _body(reader: asyncio.StreamReader, size: bytes, most: int) -> bytes:
    length = int.from_bytes(size, "big")
    if length > most:
        raise InvalidInputError(f"A frame of {length} bytes is too large.")
    return await reader.readexactly(length)


def _frame(body: bytes) -> bytes:
    return len(body).to_bytes(HEADER, "big") + body


def _audit(user: User | None, question: Question | None, answer: Answer) -> None:
    """One line for each question that does or shows something: who, what, of which job, and whether they got it."""
    log.info(
        "asked",
        user=user.name if user else None,
        what=type(question).__name__ if question else "?",
        job=getattr(question, "job_id", None),
        key=getattr(question, "key", None),
        refused=answer.kind if isinstance(answer, Failed) else None,
    )
