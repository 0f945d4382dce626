"""The interface by which the Compute API runs jobs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple, Protocol

import msgspec

from qslurm.payload.spec import JobSpec
from qslurm.protocol.messages import BackendStatus

JobStatus = Literal["planned", "running", "completed", "cancelled", "failed"]
OVER: frozenset[str] = frozenset({"completed", "cancelled", "failed"})


class ApiCaller(NamedTuple):
    """The center that sent a request, and its token, which authenticates it to Slurm as well."""

    center: str
    token: str


class Progress(msgspec.Struct, frozen=True):
    """A job's progress; times are Unix seconds. `message` says why it failed."""

    status: JobStatus
    message: str = ""
    finished_at: float | None = None


class MeasuredCircuit(msgspec.Struct, frozen=True, kw_only=True):
    """One circuit's result: when (Unix seconds), the backend's seconds, and counts and raw data as JSON."""

    number: int
    at: float
    counts: msgspec.Raw
    raw_data: msgspec.Raw | None
    shots_requested: int
    shots_done: int
    seconds: float


class Runner(Protocol):
    """Runs jobs. A `run` is an id that `begin` returned. Methods raise QslurmError."""

    def backends(self) -> list[BackendStatus]:
        """All backends."""
        ...

    def begin(self, caller: ApiCaller, spec: JobSpec) -> int:
        """Submit a job, and return its id; a job with a known key is found, not submitted again."""
        ...

    def progress(self, caller: ApiCaller, runs: Sequence[int]) -> dict[int, Progress]:
        """The progress of each of these jobs."""
        ...

    def results(self, caller: ApiCaller, run: int) -> tuple[int, int]:
        """The number of a job's circuits that have results, and the bytes of the largest result."""
        ...

    def measured(self, caller: ApiCaller, run: int, first: int, most: int) -> list[MeasuredCircuit]:
        """At most `most` of a job's results, from number `first` on."""
        ...

    def final_result(self, caller: ApiCaller, run: int) -> msgspec.Raw | None:
        """A hybrid job's final result as JSON; None if there is none yet."""
        ...

    def cancel(self, caller: ApiCaller, run: int) -> None:
        """Cancel a job."""
        ...

    def log(self, caller: ApiCaller, run: int) -> list[str]:
        """The lines of a job's output."""
        ...
