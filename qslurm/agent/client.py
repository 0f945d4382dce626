"""The way to C2 by the center's agent: a connection like the direct one, without a token."""

from __future__ import annotations

import errno
import socket
import time
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from qslurm.agent.messages import (
    HEADER,
    LARGEST_ANSWER,
    AgentStatus,
    AskPlatform,
    CancelJob,
    Facts,
    Failed,
    GetAccounted,
    GetBackends,
    GetEnded,
    GetJob,
    GetJobs,
    GetLog,
    GetPartitions,
    GetQueue,
    GetSessions,
    GetStarts,
    GetStatus,
    GetTasks,
    GetUsage,
    Hello,
    LetGo,
    Piece,
    Question,
    Releasing,
    Submission,
    Submit,
    UpdateJob,
    WhoReleases,
    answers,
    encode,
    error_of,
)
from qslurm.center.connection import Center
from qslurm.errors import InvalidInputError, UncertainError, UnknownJobError, UnreachableError
from qslurm.payload.comment import Comment
from qslurm.slurmrest import JobInfo, Submitted

if TYPE_CHECKING:
    from qslurm.center.config import AgentSettings, Config
    from qslurm.feed.pages import Line, Page

ANSWER_S = 60.0
"""The agent answers within its patience, or C2's time-out."""

AGAIN_S = 1.0
"""Between two questions to an agent that does not answer."""

AT_LEAST_S = 0.1
"""Between two looks at a job, however often it changes."""

GIVE_UP_S = 60.0
"""A submission that the agent may have is asked for so long before nobody knows."""

SILENT_S = 120.0
"""The releaser asks the agent every 30 s, or oftener."""

LOOK_BACK_S = 14 * 24 * 3600
"""How far back the tasks of an array are looked for that slurmctld has forgotten."""

T = TypeVar("T")


class AgentConnection(Center):
    """A center's connection to C2 for a user of the center, who is known to its agent."""

    def __init__(self, config: Config, say: Callable[[str], None]) -> None:
        super().__init__(config)
        self._line = _Line(config.agent, ANSWER_S)
        self._say = say

    @cached_property
    def slurm(self) -> AgentSlurm:
        """C2's slurmrestd, as far as this user's jobs go."""
        return AgentSlurm(self._line, self._say)

    @cached_property
    def results(self) -> AgentPlatform:
        """C2's job manager, as far as this user's jobs go."""
        return AgentPlatform(self._line)

    @property
    def has_platform(self) -> bool:
        """The agent knows whether there is a job manager."""
        return True

    def status(self) -> AgentStatus:
        """How the agent is, and the token it holds."""
        return self._line.ask(GetStatus(), AgentStatus)

    def delay(self, waited_s: float) -> float:
        """The agent says when the job changes: it is asked again only to be sure."""
        from qslurm.center.waiting import LONGEST_DELAY_S

        del waited_s
        return LONGEST_DELAY_S

    def pause(self, seconds: float, job: JobInfo | None) -> None:
        """Wait until the job is another than it was, but no longer than so many seconds."""
        from qslurm.agent.table import mark

        began, least = time.monotonic(), min(seconds, AGAIN_S)
        if job is not None:
            try:
                self._line.ask(GetJob(job.job_id, mark(job), seconds), JobInfo)
                least = min(seconds, AT_LEAST_S)
            except UnreachableError:
                pass  # whoever waits asks again, and knows for how long
        time.sleep(max(0.0, least - (time.monotonic() - began)))

    @cached_property
    def follow_ups(self) -> str:
        """Under which name the agent's releaser knows follow-ups; nothing if there is no releaser."""
        found = self._line.ask(WhoReleases(), Releasing)
        if found.name and found.silent_s > SILENT_S:
            self._say(
                f"The center's releaser was not heard for {found.silent_s / 60:.0f} min: tell the center's admins."
            )
        return found.name

    def depend(self, *, waits: str = "", followed: bool = False) -> None:
        """What is submitted from now on is waited for by a job of C1, or has a follow-up there."""
        self.slurm.waits, self.slurm.followed = waits, followed

    def let_go(self, key: str) -> None:
        """A submission goes on without the job of C1 that waited for it."""
        self._line.ask(LetGo(key), type(None))

    def ask(self, question: Question, answer: type[T]) -> T:
        """The agent's answer to any question."""
        return self._line.ask(question, answer)

    def close(self) -> None:
        """Hang up; what is used again connects again."""
        self._line.close()


class AgentSlurm:
    """What commands ask of a slurmrestd client, asked of the agent."""

    def __init__(self, line: _Line, say: Callable[[str], None]) -> None:
        self._line = line
        self._say = say
        self.waits, self.followed = "", False

    @cached_property
    def _facts(self) -> Facts:
        return self._line.ask(Hello(), Facts)

    @property
    def user(self) -> str:
        """The center's user on C2."""
        return self._facts.user

    @property
    def api_version(self) -> str:
        """The version that the agent speaks with C2."""
        return self._facts.api_version

    def submit(self, payload: dict[str, Any]) -> Submitted:
        """Leave a payload with the agent, and wait until C2 has taken it.

        It may be asked again and again: the agent knows a submission by its key. UncertainError if the agent is gone
        for long after it may have heard of it.
        """
        key = Comment.parse(str(payload["job"].get("comment", ""))).key
        if not key:
            raise InvalidInputError(
                "The payload's comment has no key, by which the center's agent knows a submission from another.",
                hint="Begin the comment with `qslurm key=…`, any word of 8 to 128 letters that was never used.",
            )
        question = Submit(key, payload, waits=self.waits, followed=self.followed)
        heard = time.monotonic()
        may_have_it, said = False, ""
        while True:
            try:
                submission = self._line.ask(question, Submission)
            except UnreachableError as error:
                may_have_it = may_have_it or self._line.asked
                if not may_have_it:
                    raise
                if time.monotonic() - heard > GIVE_UP_S:
                    raise UncertainError(
                        "The center's agent does not answer any more, and may have the job.", hint=error.hint
                    ) from error
                time.sleep(1.0)
                continue
            heard, may_have_it = time.monotonic(), True
            if submission.state == "accepted":
                return Submitted(submission.job_id, submission.warnings, submission.message)
            reason = submission.reason or "C2 has not answered yet."
            if reason != said:
                self._say(f"{reason} The center's agent has the job, and goes on trying.")
                said = reason

    def job(self, job_id: int) -> JobInfo:
        """One of the user's jobs."""
        return self._line.ask(GetJob(job_id), JobInfo)

    def jobs(self) -> list[JobInfo]:
        """The user's jobs."""
        return self._line.ask(GetJobs(), list[JobInfo])

    def tasks(self, job_id: int) -> list[JobInfo]:
        """One of the user's jobs, or each task of an array."""
        return self._line.ask(GetTasks(job_id), list[JobInfo])

    def accounted_tasks(self, job_id: int) -> list[JobInfo]:
        """What C2's accounting knows of an array of the user's."""
        return [job for job in self.accounted(int(time.time()) - LOOK_BACK_S) if job.array_job_id == job_id]

    def partitions(self) -> dict[str, str]:
        """The state of each of C2's partitions."""
        return self._line.ask(GetPartitions(), dict[str, str])

    def accounted(self, since: int) -> list[JobInfo]:
        """The user's jobs that C2's accounting knows, as far as they were there after a time (Unix seconds)."""
        return self._line.ask(GetAccounted(since), list[JobInfo])

    def cancel(self, job_id: int, task: int | None = None) -> list[str]:
        """Cancel one of the user's jobs, or one task of an array; C2's warnings."""
        return self._line.ask(CancelJob(job_id, task), list[str])

    def update(self, job_id: int, fields: Mapping[str, Any]) -> list[str]:
        """Hold one of the user's jobs that wait, or release it; C2's warnings."""
        if set(fields) != {"hold"}:
            raise InvalidInputError(
                "The center's agent can hold jobs and release them, and change nothing else."
            )
        return self._line.ask(UpdateJob(job_id, bool(fields["hold"])), list[str])

    def find_by_key(self, key: str) -> JobInfo | None:
        """The user's job that was submitted under this key."""
        found = self._line.ask(GetJobs(key), list[JobInfo])
        return found[0] if found else None

    def close(self) -> None:
        """Hang up."""
        self._line.close()


class AgentPlatform:
    """What commands ask of C2's job manager, asked of the agent."""

    def __init__(self, line: _Line) -> None:
        self._line = line

    def job(self, job_id: int) -> dict[str, Any]:
        """What the platform knows of one of the user's jobs."""
        return self._line.ask(AskPlatform("job", job_id), dict[str, Any])

    def results(self, job_id: int) -> dict[str, Any]:
        """What one of the user's jobs has measured or computed."""
        return self._line.ask(AskPlatform("results", job_id), dict[str, Any])

    def jobs(self, limit: int = 1000) -> list[dict[str, Any]]:
        """The latest of the user's jobs that the platform has run."""
        return self._line.ask(GetEnded(limit), list[dict[str, Any]])

    def queue(self) -> Line:
        """The user's jobs, with their places in line."""
        from qslurm.feed.pages import Line

        return self._line.ask(GetQueue(), Line)

    def places(self) -> list[tuple[int, int]]:
        """The places in line of the user's jobs."""
        return self.queue().places

    def changes(self, since: str, wait_s: int) -> Page:
        """Only the agent itself follows what changes."""
        del since, wait_s
        raise UnknownJobError("The center's agent has no list of changes; it is asked for jobs.")

    def starts(self, key: str) -> list[dict[str, Any]]:
        """Every start of one of the user's submissions that the platform knows, newest first."""
        return self._line.ask(GetStarts(key), list[dict[str, Any]])

    def usage(self, since: int, until: int) -> list[dict[str, Any]]:
        """What the user's jobs have used in a time (Unix seconds)."""
        return self._line.ask(GetUsage(since, until), list[dict[str, Any]])

    def backends(self) -> list[dict[str, Any]]:
        """The platform's backends and how they are."""
        return self._line.ask(GetBackends(), list[dict[str, Any]])

    def sessions(self) -> dict[str, Any]:
        """Where C2 lets the clients of sessions in, and the certificate by which that is known."""
        return self._line.ask(GetSessions(), dict[str, Any])

    def log_from(self, job_id: int, offset: int) -> tuple[bytes, int]:
        """What the job has written from `offset` on, as much as comes at once, and the offset of what follows."""
        piece = self._line.ask(GetLog(job_id, offset), Piece)
        return piece.data, piece.next_offset

    def close(self) -> None:
        """Hang up."""
        self._line.close()


class _Line:
    """A connection to the agent, made when it is needed."""

    def __init__(self, settings: AgentSettings, timeout_s: float) -> None:
        self._settings = settings
        self._timeout_s = timeout_s
        self._link: socket.socket | None = None
        self._sign: Any = None
        self.asked = False
        """Whether the agent may have heard the last question."""

    def ask(self, question: Question, answer: type[T]) -> T:
        """The answer; the error that the agent says, or UnreachableError.

        Every question may be asked twice, so a kept connection that turns out to be closed is made anew.
        """
        body, kept = encode(question), self._link is not None
        self.asked = False
        try:
            link = self._connected()
            credential = self._sign(body) if self._sign else b""
            self.asked = True
            for part in (credential, body):
                link.sendall(len(part).to_bytes(HEADER, "big") + part)
            size = int.from_bytes(_exactly(link, HEADER), "big")
            said = answers.decode(_exactly(link, size))
        except (OSError, EOFError, msgspec.DecodeError) as error:
            self.close()
            if kept and not isinstance(error, TimeoutError):
                return self.ask(question, answer)
            why = getattr(error, "strerror", None) or (
                "it hung up" if isinstance(error, EOFError) else str(error)
            )
            raise UnreachableError(
                f"The center's agent at {self._where} did not answer ({why}).",
                hint="Tell the center's admins, or try again later.",
            ) from error
        if isinstance(said, Failed):
            raise error_of(said)
        return msgspec.convert(said.value, answer)

    def close(self) -> None:
        """Hang up."""
        if self._link is not None:
            self._link.close()
            self._link = None

    @property
    def _by_socket(self) -> bool:
        """On the agent's own host it is asked by its socket, elsewhere by its address."""
        return bool(self._settings.socket) and (
            not self._settings.address or Path(self._settings.socket).exists()
        )

    @property
    def _where(self) -> str:
        return self._settings.socket if self._by_socket else self._settings.address

    def _connected(self) -> socket.socket:
        if self._link is None:
            if self._by_socket:
                self._link = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
                self._link.settimeout(self._timeout_s)
                self._link.connect(self._settings.socket)
            else:
                from qslurm.agent.service import parse_address
                from qslurm.dispatcher.credentials import Munge

                self._link = socket.create_connection(parse_address(self._settings.address), self._timeout_s)
                self._link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._sign = Munge(self._settings.munge_socket).sign
        return self._link


def _exactly(link: socket.socket, length: int) -> bytes:
    if length > LARGEST_ANSWER:
        raise OSError(errno.EMSGSIZE, "what answers there is no agent")
    data = bytearray()
    while len(data) < length:
        piece = link.recv(min(length - len(data), 1 << 20))
        if not piece:
            raise EOFError
        data += piece
    return bytes(data)
