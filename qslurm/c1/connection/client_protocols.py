"""The interfaces of C2's two services, as used by commands: direct or through the agent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from qslurm.protocol.job_changes import ChangesPage, PartitionLoad, QueueListing
    from qslurm.slurm.job_info import JobInfo
    from qslurm.slurm.rest import Submitted


class SlurmClient(Protocol):
    """Requests to C2's Slurm; SlurmrestClient documents them and their errors."""

    @property
    def user(self) -> str: ...  # noqa: D102
    @property
    def api_version(self) -> str: ...  # noqa: D102
    def submit(self, payload: dict[str, Any]) -> Submitted: ...  # noqa: D102
    def job(self, job_id: int) -> JobInfo: ...  # noqa: D102
    def jobs(self) -> list[JobInfo]: ...  # noqa: D102
    def partitions(self) -> dict[str, str]: ...  # noqa: D102
    def tasks(self, job_id: int) -> list[JobInfo]: ...  # noqa: D102
    def accounted_tasks(self, job_id: int) -> list[JobInfo]: ...  # noqa: D102
    def accounted(self, since: int) -> list[JobInfo]: ...  # noqa: D102
    def cancel(self, job_id: int, task: int | None = None) -> list[str]: ...  # noqa: D102
    def update(self, job_id: int, fields: Mapping[str, Any]) -> list[str]: ...  # noqa: D102
    def find_by_key(self, key: str) -> JobInfo | None: ...  # noqa: D102
    def close(self) -> None: ...  # noqa: D102


class JobManagerApi(Protocol):
    """Requests to C2's job manager; JobManagerClient documents them and their errors."""

    def job(self, job_id: int) -> dict[str, Any]: ...  # noqa: D102
    def results(self, job_id: int) -> dict[str, Any]: ...  # noqa: D102
    def many_results(self, job_ids: Sequence[int]) -> list[dict[str, Any]]: ...  # noqa: D102
    def jobs(self, limit: int = 1000) -> list[dict[str, Any]]: ...  # noqa: D102
    def starts(self, key: str) -> list[dict[str, Any]]: ...  # noqa: D102
    def usage(self, since: int, until: int) -> list[dict[str, Any]]: ...  # noqa: D102
    def backends(self) -> list[dict[str, Any]]: ...  # noqa: D102
    def limits(self) -> list[dict[str, Any]]: ...  # noqa: D102
    def sessions(self) -> dict[str, Any]: ...  # noqa: D102
    def changes(self, since: str, wait_s: int) -> ChangesPage: ...  # noqa: D102
    def queue(self) -> QueueListing: ...  # noqa: D102
    def places(self) -> list[tuple[int, int]]: ...  # noqa: D102
    def loads(self) -> list[PartitionLoad]: ...  # noqa: D102
    def log_from(self, job_id: int, offset: int) -> tuple[bytes, int]: ...  # noqa: D102
    def close(self) -> None: ...  # noqa: D102
