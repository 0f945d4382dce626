"""What commands ask of C2's job manager, by the center's agent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qslurm.c1.connection.agent_messages import (
    AskPlatform,
    GetBackends,
    GetEnded,
    GetLoads,
    GetLog,
    GetQueue,
    GetResults,
    GetSessions,
    GetStarts,
    GetUsage,
    Piece,
)
from qslurm.c1.connection.agent_socket import AgentSocket
from qslurm.errors import UnknownJobError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qslurm.protocol.job_changes import Line, Load, Page


class AgentJobManager:
    """What commands ask of C2's job manager, asked of the agent."""

    def __init__(self, line: AgentSocket) -> None:
        self._line = line

    def job(self, job_id: int) -> dict[str, Any]:
        """What the platform knows of one of the user's jobs."""
        return self._line.ask(AskPlatform("job", job_id), dict[str, Any])

    def results(self, job_id: int) -> dict[str, Any]:
        """What one of the user's jobs has measured or computed."""
        return self._line.ask(AskPlatform("results", job_id), dict[str, Any])

    def many_results(self, job_ids: Sequence[int]) -> list[dict[str, Any]]:
        """What each of these of the user's jobs has measured or computed, or its `error`; of some at least."""
        return self._line.ask(GetResults(list(job_ids)), list[dict[str, Any]])

    def jobs(self, limit: int = 1000) -> list[dict[str, Any]]:
        """The latest of the user's jobs that the platform has run."""
        return self._line.ask(GetEnded(limit), list[dict[str, Any]])

    def queue(self) -> Line:
        """The user's jobs, with their places in line."""
        from qslurm.protocol.job_changes import Line

        return self._line.ask(GetQueue(), Line)

    def places(self) -> list[tuple[int, int]]:
        """The places in line of the user's jobs."""
        return self.queue().places

    def loads(self) -> list[Load]:
        """How many jobs of all centers wait and run in each partition."""
        from qslurm.protocol.job_changes import Load

        return self._line.ask(GetLoads(), list[Load])

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

    def limits(self) -> list[dict[str, Any]]:
        """The backends as the agent knows them, without asking C2 for long."""
        return self._line.ask(GetBackends(at_hand=True), list[dict[str, Any]])

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
