"""Records of the store for its readers. Times are Unix seconds, durations seconds."""

from __future__ import annotations

import msgspec

from qslurm.payload.envelope import Kind


class TaskRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One start of one job. `id` is unique in the store; C2's job ids and restart counts may be reused.

    `slurm_state` and `exit_code` are Slurm's report of the end. `executions` counts circuits with a result; `shots` and
    `qpu_seconds` are sums.
    """

    id: int
    center: str
    job_id: int
    restart: int
    key: str
    kind: Kind
    backend: str
    name: str
    user: str
    account: str
    origin: str
    state: str
    reason: str
    reason_code: str
    admitted_at: float
    started_at: float | None
    finished_at: float | None
    slurm_state: str
    exit_code: int | None
    executions: int
    shots: int
    qpu_seconds: float


class ExecutionRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One circuit executed for a task; `seq` numbers them from 0. `counts` and `raw_data` are JSON."""

    seq: int
    shots_requested: int
    shots_done: int
    counts: msgspec.Raw
    raw_data: msgspec.Raw | None
    seconds: float
    state: str
    reason: str


class UsageRecord(msgspec.Struct, frozen=True, kw_only=True):
    """The use of a backend by the jobs of one origin and account; `jobs` counts a requeued job once."""

    origin: str
    account: str
    backend: str
    jobs: int
    executions: int
    shots: int
    qpu_seconds: float
