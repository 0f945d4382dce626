"""What the Compute API needs of those who run jobs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple, Protocol

import msgspec

from qslurm.payload.spec import JobSpec
from qslurm.protocol.messages import BackendStatus

JobStatus = Literal["planned", "running", "completed", "cancelled", "failed"]
OVER: frozenset[str] = frozenset({"completed", "cancelled", "failed"})


class ApiCaller(NamedTuple):
    """Who asks: the center, and the token that says so (for Slurm, in that center's name)."""

    center: str
    token: str


class Progress(msgspec.Struct, frozen=True):
    """How far a job is; times are Unix seconds. `message` says why it failed."""

    status: JobStatus
    message: str = ""
    finished_at: float | None = None


class MeasuredCircuit(msgspec.Struct, frozen=True, kw_only=True):
    """What one circuit of a job gave, when, and how long the backend was busy with it; counts and raw data as JSON."""

    number: int
    at: float
    counts: msgspec.Raw
    raw_data: msgspec.Raw | None
    shots_requested: int
    shots_done: int
    seconds: float


class Runner(Protocol):
    """Runs jobs. `run` is the number that `begin` gave. What can't be done is a QslurmError."""

    def backends(self) -> list[BackendStatus]:
        """The backends and how they are."""
        ...

    def begin(self, caller: ApiCaller, spec: JobSpec) -> int:
        """Submit a job. One whose key is known already is not submitted again: it is found."""
        ...

    def progress(self, caller: ApiCaller, runs: Sequence[int]) -> dict[int, Progress]:
        """How far each of these is."""
        ...

    def results(self, caller: ApiCaller, run: int) -> tuple[int, int]:
        """How many of its circuits have given something by now, and the size of the largest of that, in bytes."""
        ...

    def measured(self, caller: ApiCaller, run: int, first: int, most: int) -> list[MeasuredCircuit]:
        """What its circuits have given by now, from one of them on."""
        ...

    def final_result(self, caller: ApiCaller, run: int) -> msgspec.Raw | None:
        """What a hybrid job has computed, as JSON; None if there is nothing (yet)."""
        ...

    def cancel(self, caller: ApiCaller, run: int) -> None:
        """Cancel it."""
        ...

    def log(self, caller: ApiCaller, run: int) -> list[str]:
        """The lines it has written by now."""
        ...
