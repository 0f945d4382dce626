"""The way to C2 by the center's agent: a connection like the direct one, without a token."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, TypeVar

from qslurm.c1.connection.agent_messages import (
    AgentStatus,
    GetMoved,
    GetStatus,
    GetTasks,
    LetGo,
    Moved,
    Question,
    Releasing,
    WhoReleases,
)
from qslurm.c1.connection.agent_slurm import AgentSlurm
from qslurm.c1.connection.agent_socket import AgentSocket
from qslurm.c1.connection.center import Center
from qslurm.errors import UnreachableError
from qslurm.slurm.job_info import JobInfo

if TYPE_CHECKING:
    from qslurm.c1.config.center_config import Config
    from qslurm.c1.connection.agent_job_manager import AgentJobManager

T = TypeVar("T")

ANSWER_S = 60.0
"""The agent answers within its patience, or C2's time-out."""

AGAIN_S = 1.0
"""Between two questions to an agent that does not answer."""

AT_LEAST_S = 0.1
"""Between two looks at a job, however often it changes."""

SILENT_S = 120.0
"""The releaser asks the agent every 30 s, or oftener."""


class AgentConnection(Center):
    """A center's connection to C2 for a user of the center, who is known to its agent."""

    def __init__(self, config: Config, say: Callable[[str], None]) -> None:
        super().__init__(config)
        self._line = AgentSocket(config.agent, ANSWER_S)
        self._say = say

    @cached_property
    def slurm(self) -> AgentSlurm:
        """C2's slurmrestd, as far as this user's jobs go."""
        return AgentSlurm(self._line, self._say)

    @cached_property
    def results(self) -> AgentJobManager:
        """C2's job manager, as far as this user's jobs go."""
        from qslurm.c1.connection.agent_job_manager import AgentJobManager

        return AgentJobManager(self._line)

    @property
    def has_platform(self) -> bool:
        """The agent knows whether there is a job manager."""
        return True

    def status(self) -> AgentStatus:
        """How the agent is, and the token it holds."""
        return self._line.ask(GetStatus(), AgentStatus)

    def delay(self, waited_s: float) -> float:
        """The agent says when the job changes: it is asked again only to be sure."""
        from qslurm.c1.connection.polling import LONGEST_DELAY_S

        del waited_s
        return LONGEST_DELAY_S

    def pause(self, seconds: float, job: JobInfo | None) -> list[JobInfo] | None:
        """Wait until the job is another than it was, but no longer than so many seconds; how it is then."""
        from qslurm.protocol.job_changes import mark

        began, least, tasks = time.monotonic(), min(seconds, AGAIN_S), None
        if job is not None:
            question = GetTasks(job.array_or_job_id, job.job_id, mark(job), seconds)
            try:
                tasks = self._line.ask(question, list[JobInfo])
                least = min(seconds, AT_LEAST_S)
            except UnreachableError:
                pass  # whoever waits asks again, and knows for how long
        time.sleep(max(0.0, least - (time.monotonic() - began)))
        return tasks

    def moved(self, since: int, patience_s: float) -> Moved:
        """Which of the user's jobs have changed since an answer had this number: once some have, or after so long."""
        return self._line.ask(GetMoved(since, patience_s), Moved)

    @property
    def submissions_at_once(self) -> int:
        """As many as keep the agent's lanes busy: what comes while its disk is, goes together on it."""
        return 16

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

    def be_patient(self, seconds: float) -> None:
        """Wait for so long until C2 has what is submitted; it is safe on the agent's disk meanwhile."""
        self.slurm.patience_s = seconds

    def let_go(self, key: str) -> None:
        """A submission goes on without the job of C1 that waited for it."""
        self._line.ask(LetGo(key), type(None))

    def ask(self, question: Question, answer: type[T]) -> T:
        """The agent's answer to any question."""
        return self._line.ask(question, answer)

    def close(self) -> None:
        """Hang up; what is used again connects again."""
        self._line.close()
