"""The interface of C2's job manager, served by the center's agent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qslurm.c1.connection.agent_messages import (
    GetBackends,
    GetEnded,
    GetLoads,
    GetLog,
    GetPlatformRecord,
    GetQueue,
    GetResults,
    GetSessions,
    GetStarts,
    GetUsage,
    LogPiece,
)
from qslurm.c1.connection.agent_socket import AgentSocket
from qslurm.errors import UnknownJobError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qslurm.protocol.job_changes import ChangesPage, PartitionLoad, QueueListing


class AgentJobManager:
    """The job manager's interface, served by the agent."""

    def __init__(self, socket: AgentSocket) -> None:
        self._socket = socket

    def job(self, job_id: int) -> dict[str, Any]:
        """The platform's record of one of the user's jobs."""
        return self._socket.ask(GetPlatformRecord("job", job_id), dict[str, Any])

    def results(self, job_id: int) -> dict[str, Any]:
        """The results of one of the user's jobs."""
        return self._socket.ask(GetPlatformRecord("results", job_id), dict[str, Any])

    def many_results(self, job_ids: Sequence[int]) -> list[dict[str, Any]]:
        """The results, or the `error`, of each of these jobs of the user; at least of the first ones."""
        return self._socket.ask(GetResults(list(job_ids)), list[dict[str, Any]])

    def jobs(self, limit: int = 1000) -> list[dict[str, Any]]:
        """The user's latest jobs that the platform has run."""
        return self._socket.ask(GetEnded(limit), list[dict[str, Any]])

    def queue(self) -> QueueListing:
        """The user's jobs with their queue positions."""
        from qslurm.protocol.job_changes import QueueListing

        return self._socket.ask(GetQueue(), QueueListing)

    def places(self) -> list[tuple[int, int]]:
        """The queue positions of the user's jobs."""
        return self.queue().places

    def loads(self) -> list[PartitionLoad]:
        """The numbers of pending and running jobs of all centers, by partition."""
        from qslurm.protocol.job_changes import PartitionLoad

        return self._socket.ask(GetLoads(), list[PartitionLoad])

    def changes(self, since: str, wait_s: int) -> ChangesPage:
        """Not supported: only the agent itself follows changes."""
        del since, wait_s
        raise UnknownJobError("The center's agent offers no list of changes.")

    def starts(self, key: str) -> list[dict[str, Any]]:
        """Every start of one of the user's submissions, newest first."""
        return self._socket.ask(GetStarts(key), list[dict[str, Any]])

    def usage(self, since: int, until: int) -> list[dict[str, Any]]:
        """The user's usage in a period (Unix seconds)."""
        return self._socket.ask(GetUsage(since, until), list[dict[str, Any]])

    def backends(self) -> list[dict[str, Any]]:
        """The platform's backends and their states."""
        return self._socket.ask(GetBackends(), list[dict[str, Any]])

    def limits(self) -> list[dict[str, Any]]:
        """The backends as last seen by the agent, without waiting for C2."""
        return self._socket.ask(GetBackends(at_hand=True), list[dict[str, Any]])

    def sessions(self) -> dict[str, Any]:
        """Address and certificate of C2's session server."""
        return self._socket.ask(GetSessions(), dict[str, Any])

    def log_from(self, job_id: int, offset: int) -> tuple[bytes, int]:
        """A piece of the job's output from `offset`, and the offset after it."""
        piece = self._socket.ask(GetLog(job_id, offset), LogPiece)
        return piece.data, piece.next_offset

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()
