"""The interface of the slurmrestd client, served by the center's agent."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

from qslurm.c1.connection.agent_messages import (
    AgentIdentity,
    CancelJob,
    GetAccounted,
    GetIdentity,
    GetJob,
    GetJobs,
    GetPartitions,
    GetTasks,
    Submission,
    Submit,
    UpdateJob,
)
from qslurm.c1.connection.agent_socket import AgentSocket
from qslurm.errors import InvalidInputError, KeptError, UncertainError, UnreachableError
from qslurm.payload.comment import Comment
from qslurm.slurm.job_info import JobInfo
from qslurm.slurm.rest import Submitted

RESPONSE_S = 20.0
"""Time-out in seconds of the agent's answer about a submission."""

GIVE_UP_S = 60.0
"""Seconds to query the agent about an unconfirmed submission before giving up."""


class AgentSlurm:
    """The slurmrestd client's interface, served by the agent."""

    def __init__(self, socket: AgentSocket, say: Callable[[str], None]) -> None:
        self._socket = socket
        self._say = say
        self.waits, self.followed = "", False
        self.patience_s = math.inf
        """Seconds to wait for C2 to accept a submission that the agent has."""

    @cached_property
    def _identity(self) -> AgentIdentity:
        return self._socket.ask(GetIdentity(), AgentIdentity)

    @property
    def user(self) -> str:
        """The center's user on C2."""
        return self._identity.user

    @property
    def api_version(self) -> str:
        """The API version between the agent and C2."""
        return self._identity.api_version

    def submit(self, payload: dict[str, Any]) -> Submitted:
        """Submit a payload through the agent, and wait until C2 has accepted it.

        Retries are safe: the agent identifies a submission by its key. UncertainError if the agent stops answering
        after it may have received the submission, KeptError if C2 has not accepted it in `patience_s`.
        """
        key = Comment.parse(str(payload["job"].get("comment", ""))).key
        if not key:
            raise InvalidInputError(
                "The payload's comment has no submission key, which the center's agent requires.",
                hint="Begin the comment with `qslurm key=KEY`, where KEY is unique and has 8 to 128 letters.",
            )
        request = Submit(key, payload, waits=self.waits, followed=self.followed)
        began = answered_at = time.monotonic()
        may_have_it, last_reason = False, ""
        while True:
            request.patience_s = max(0.0, min(RESPONSE_S, began + self.patience_s - time.monotonic()))
            try:
                submission = self._socket.ask(request, Submission)
            except UnreachableError as error:
                may_have_it = may_have_it or self._socket.maybe_sent
                if not may_have_it:
                    raise
                if time.monotonic() - answered_at > GIVE_UP_S:
                    raise UncertainError(
                        "The center's agent stopped answering, and may have the job.", hint=error.hint
                    ) from error
                time.sleep(1.0)
                continue
            answered_at, may_have_it = time.monotonic(), True
            if submission.state == "accepted":
                return Submitted(submission.job_id, submission.warnings, submission.message)
            reason = submission.reason or "C2 has not answered yet."
            if time.monotonic() - began >= self.patience_s:
                raise KeptError(
                    f"{reason} The center's agent keeps the job and submits it when C2 answers.",
                    hint=f"Do not submit it again; `qslurm queue --key {key}` shows it.",
                )
            if reason != last_reason:
                self._say(f"{reason} The center's agent has the job, and keeps trying.")
                last_reason = reason

    def job(self, job_id: int) -> JobInfo:
        """One of the user's jobs."""
        return self._socket.ask(GetJob(job_id), JobInfo)

    def jobs(self) -> list[JobInfo]:
        """The user's jobs."""
        return self._socket.ask(GetJobs(), list[JobInfo])

    def tasks(self, job_id: int) -> list[JobInfo]:
        """One of the user's jobs, or each task of an array."""
        return self._socket.ask(GetTasks(job_id), list[JobInfo])

    def accounted_tasks(self, job_id: int) -> list[JobInfo]:
        """C2's accounting records of one of the user's arrays."""
        return self._socket.ask(GetAccounted(0, job_id), list[JobInfo])

    def partitions(self) -> dict[str, str]:
        """The state of each of C2's partitions."""
        return self._socket.ask(GetPartitions(), dict[str, str])

    def accounted(self, since: int) -> list[JobInfo]:
        """The user's jobs in C2's accounting that existed after a time (Unix seconds)."""
        return self._socket.ask(GetAccounted(since), list[JobInfo])

    def cancel(self, job_id: int, task: int | None = None) -> list[str]:
        """Cancel one of the user's jobs, or one array task; returns C2's warnings."""
        return self._socket.ask(CancelJob(job_id, task), list[str])

    def update(self, job_id: int, fields: Mapping[str, Any]) -> list[str]:
        """Hold or release one of the user's pending jobs; returns C2's warnings."""
        if set(fields) != {"hold"}:
            raise InvalidInputError("The center's agent can only hold and release jobs.")
        return self._socket.ask(UpdateJob(job_id, bool(fields["hold"])), list[str])

    def find_by_key(self, key: str) -> JobInfo | None:
        """The user's job that was submitted under this key."""
        found = self._socket.ask(GetJobs(key), list[JobInfo])
        return found[0] if found else None

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()
