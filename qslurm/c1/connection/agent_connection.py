"""A connection to C2 through the center's agent: the same interface as the direct one, without a token."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, TypeVar

from qslurm.c1.connection.agent_messages import (
    AgentRequest,
    AgentStatus,
    ChangedJobs,
    GetAgentStatus,
    GetChangedJobs,
    GetReleaser,
    GetTasks,
    ReleaserState,
    Unbind,
)
from qslurm.c1.connection.agent_slurm import AgentSlurm
from qslurm.c1.connection.agent_socket import AgentSocket
from qslurm.c1.connection.center_connection import CenterConnection
from qslurm.errors import UnreachableError
from qslurm.slurm.job_info import JobInfo

if TYPE_CHECKING:
    from qslurm.c1.config.settings import Config
    from qslurm.c1.connection.agent_job_manager import AgentJobManager

T = TypeVar("T")

ANSWER_S = 60.0
"""Margin in seconds for the agent's answer beyond its own time-outs."""

AGAIN_S = 1.0
"""Seconds between retries while the agent does not answer."""

AT_LEAST_S = 0.1
"""Minimum seconds between two polls of a job."""

SILENT_S = 120.0
"""The releaser polls the agent at least every 30 s."""


class AgentConnection(CenterConnection):
    """A center's connection to C2 for a user whom the agent authenticates."""

    def __init__(self, config: Config, say: Callable[[str], None]) -> None:
        super().__init__(config)
        self._socket = AgentSocket(config.agent, ANSWER_S)
        self._say = say

    @cached_property
    def slurm(self) -> AgentSlurm:
        """C2's slurmrestd, restricted to this user's jobs."""
        return AgentSlurm(self._socket, self._say)

    @cached_property
    def job_manager(self) -> AgentJobManager:
        """C2's job manager, restricted to this user's jobs."""
        from qslurm.c1.connection.agent_job_manager import AgentJobManager

        return AgentJobManager(self._socket)

    @property
    def has_job_manager(self) -> bool:
        """Whether a job manager is configured; the agent knows."""
        return True

    def status(self) -> AgentStatus:
        """The status of the agent and its token."""
        return self._socket.ask(GetAgentStatus(), AgentStatus)

    def delay(self, waited_s: float) -> float:
        """Seconds until the next poll: the agent reports changes, so this is only a fallback."""
        from qslurm.c1.connection.polling import LONGEST_DELAY_S

        del waited_s
        return LONGEST_DELAY_S

    def wait_for_change(self, seconds: float, job: JobInfo | None) -> list[JobInfo] | None:
        """Wait until the job changes, at most this many seconds."""
        from qslurm.protocol.job_changes import visible_state

        began, least, tasks = time.monotonic(), min(seconds, AGAIN_S), None
        if job is not None:
            request = GetTasks(job.array_or_job_id, job.job_id, visible_state(job), seconds)
            try:
                tasks = self._socket.ask(request, list[JobInfo])
                least = min(seconds, AT_LEAST_S)
            except UnreachableError:
                pass  # the caller polls again until its own time-out
        time.sleep(max(0.0, least - (time.monotonic() - began)))
        return tasks

    def changes_since(self, since: int, timeout_s: float) -> ChangedJobs:
        """The user's jobs that changed after an answer with this number; waits for changes up to a time-out."""
        return self._socket.ask(GetChangedJobs(since, timeout_s), ChangedJobs)

    @property
    def submissions_at_once(self) -> int:
        """Concurrent submissions that keep the agent's senders busy."""
        return 16

    @cached_property
    def follow_up_platform(self) -> str:
        """The platform's name in follow-ups; "" if the agent has no releaser."""
        found = self._socket.ask(GetReleaser(), ReleaserState)
        if found.name and found.silent_s > SILENT_S:
            self._say(
                f"The center's releaser has not been seen for {found.silent_s / 60:.0f} min. Tell the center's admins."
            )
        return found.name

    def bind(self, *, waits: str = "", followed: bool = False) -> None:
        """Bind later submissions to a job of C1 that waits for them, or that follows them."""
        self.slurm.waits, self.slurm.followed = waits, followed

    def set_outbox_timeout(self, seconds: float) -> None:
        """Wait this long for C2 to accept later submissions, which the agent keeps on disk meanwhile."""
        self.slurm.patience_s = seconds

    def unbind(self, key: str) -> None:
        """Unbind a submission from the C1 job that waited for it."""
        self._socket.ask(Unbind(key), type(None))

    def ask(self, request: AgentRequest, answer: type[T]) -> T:
        """Send a request and return the agent's answer."""
        return self._socket.ask(request, answer)

    def close(self) -> None:
        """Close the connection; the next request reconnects."""
        self._socket.close()
