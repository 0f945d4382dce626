"""Schemas of what `--json` prints, a type for each row of docs/json.md. A field that no type names is an error."""

from __future__ import annotations

from typing import Any, Literal

import msgspec
from msgspec import UNSET, UnsetType


class Document(msgspec.Struct, forbid_unknown_fields=True):
    """What is UNSET may be missing; everything else is always there."""


class Error(Document, kw_only=True):
    code: int
    type: str
    message: str
    hint: str


class ErrorDocument(Document, kw_only=True):
    error: Error


class SomePlatforms(Document, kw_only=True):
    errors: dict[str, Error] | UnsetType = UNSET


class Submitted(Document, kw_only=True):
    job_id: int
    id: str
    platform: str
    partition: str
    api_version: str | None
    warnings: list[str]
    follow_up: int | UnsetType = UNSET


class OneOfMany(Document, kw_only=True):
    file: str
    job_id: int | None
    id: str | UnsetType = UNSET
    platform: str | UnsetType = UNSET
    partition: str | UnsetType = UNSET
    warnings: list[str] | UnsetType = UNSET
    task: int | UnsetType = UNSET
    error: Error | UnsetType = UNSET


class Many(Document, kw_only=True):
    jobs: list[OneOfMany]


class EndedOfMany(OneOfMany, kw_only=True):
    state: str
    results: dict[str, Any] | UnsetType | None = UNSET
    tasks: list[dict[str, Any]] | UnsetType = UNSET


class ManyEnded(Document, kw_only=True):
    jobs: list[EndedOfMany]


class Counts(Document, kw_only=True):
    job_id: int
    key: str
    kind: Literal["circuit"]
    name: str
    state: str
    reason: str
    reason_code: str
    counts: dict[str, int]
    shots: int
    raw_data: list[str] | None
    id: str | UnsetType = UNSET
    parameters: dict[str, str] | UnsetType = UNSET


class FinalResult(Document, kw_only=True):
    job_id: int
    key: str
    kind: Literal["hybrid", "session"]
    name: str
    state: str
    reason: str
    reason_code: str
    final_result: Any
    executions: int
    shots: int
    remarks: list[str]
    id: str | UnsetType = UNSET
    parameters: dict[str, str] | UnsetType = UNSET


class NoResult(Document, kw_only=True):
    id: str
    state: str
    parameters: dict[str, str]
    error: Error


Result = Counts | FinalResult


class ArrayResults(Document, kw_only=True):
    job_id: int
    state: str
    tasks: list[dict[str, Any]]  # Counts, FinalResult or NoResult: see `check`


class Job(Document, kw_only=True):
    id: str
    job_id: int
    array_job_id: int | None
    array_task_id: int | None
    array_tasks: str | None
    name: str
    partition: str
    account: str
    qos: str
    user: str
    cluster: str
    nodes: str
    priority: int | None
    state: str
    reason: str
    submit_time: int | None
    start_time: int | None
    expected_start_time: int | None
    end_time: int | None
    time_limit_minutes: int | None
    exit_code: int | None
    signal: int | None
    core_dumped: bool
    restart_count: int
    cancelled_by: str
    kind: str
    backend: str
    key: str
    origin: str
    note: str
    comment: str
    admin_comment: str
    source: Literal["slurmctld", "slurmdbd"]


class TaskJob(Job, kw_only=True):
    parameters: dict[str, str] | UnsetType = UNSET


class EndedJob(TaskJob, kw_only=True):
    results: dict[str, Any] | UnsetType | None = UNSET
    error: Error | UnsetType = UNSET


class UnknownJob(Document, kw_only=True):
    id: str
    job_id: int
    error: Error


class EndedJobs(Document, kw_only=True):
    jobs: list[dict[str, Any]]  # EndedJob or UnknownJob: see `check`


class Payload(Document, kw_only=True):
    job: dict[str, Any]
    script: str


class QueuedJob(Job, kw_only=True):
    platform: str
    position: int | None


class FollowUp(Document, kw_only=True):
    job_id: int
    user: str
    follows: str
    then_if: Literal["ok", "any", "failed"]
    platform: str


class Queue(SomePlatforms, kw_only=True):
    jobs: list[QueuedJob]
    follow_ups: list[FollowUp]


class ShownJob(TaskJob, kw_only=True):
    api_version: str | None
    platform: dict[str, Any] | None


class ShownArray(Document, kw_only=True):
    job_id: int
    api_version: str | None
    tasks: list[TaskJob]


class Cancelled(Document, kw_only=True):
    job_id: int
    id: str
    cancelled: bool
    warnings: list[str]
    error: Error | UnsetType = UNSET


class CancelledJobs(Document, kw_only=True):
    jobs: list[Cancelled]


class HeldJob(Document, kw_only=True):
    job_id: int
    id: str
    hold: bool


class HeldJobs(Document, kw_only=True):
    jobs: list[HeldJob]


class Log(Document, kw_only=True):
    job_id: int
    log: str


class AccountedJob(Job, kw_only=True):
    platform: str
    executions: int
    shots: int
    qpu_seconds: float


class History(SomePlatforms, kw_only=True):
    jobs: list[AccountedJob]


class Used(Document, kw_only=True):
    platform: str
    user: str
    account: str
    backend: str
    jobs: int
    executions: int
    shots: int
    qpu_seconds: float


class Usage(SomePlatforms, kw_only=True):
    since: int
    until: int
    usage: list[Used]


class Window(Document, kw_only=True):
    begins: float
    ends: float
    yours: bool
    reason: str | UnsetType = UNSET


class Backend(Document, kw_only=True):
    name: str
    platform: str
    state: str
    reason: str
    since: float | None
    qubits: int | None
    max_shots: int | None
    default_shots: int | None
    partition: str
    partition_state: str
    waiting: int
    in_line: int
    running: int
    queued: int
    executing: int
    allowed: bool
    reserved: list[Window]


class Info(SomePlatforms, kw_only=True):
    backends: list[Backend]


class CircuitRun(Document, kw_only=True):
    counts: dict[str, int]
    shots: int


class HybridRun(Document, kw_only=True):
    final_result: Any
    executions: int
    remarks: list[str]


class Finding(Document, kw_only=True):
    name: str
    state: Literal["ok", "warn", "fail"]
    what: str
    do: str


class Doctor(Document, kw_only=True):
    ok: bool
    findings: list[Finding]


class NewConfiguration(Document, kw_only=True):
    file: str
    findings: list[Finding]
    next: list[str]


class SessionRun(Document, kw_only=True):
    job_id: int
    kind: Literal["session"]
    final_result: Any
    executions: int
    remarks: list[str]


class RenewedToken(Document, kw_only=True):
    renewed: bool
    expires: int | None
    renew_at: float
    renewable_until: int | None


class RenewalTerms(Document, kw_only=True):
    center: str
    allowed: bool
    until: int | None
    lifetime: str


class Key(Document, kw_only=True):
    center: str
    fingerprint: str
    created: float
    renewable_until: int | None


class Keys(Document, kw_only=True):
    keys: list[Key]


class Claims(Document, kw_only=True):
    user: str
    issued: int | None
    expires: int | None
    key_id: str
    algorithm: str


class TokenCheck(Document, kw_only=True):
    path: str
    claims: Claims
    expiry: str
    seconds_left: float | None
    c2: str
    warnings: list[str]
    accounting: bool | None


class AgentToken(Document, kw_only=True):
    user: str
    expires: int | None
    renew_at: float | None
    renewable_until: int | None
    trouble: str
    ends_soon: bool
    clock_off_s: float


class AgentReleaser(Document, kw_only=True):
    name: str
    silent_s: float


class AgentStatus(Document, kw_only=True):
    token: AgentToken
    waiting: int
    open: int
    releaser: AgentReleaser | None


class PartitionState(Document, kw_only=True):
    partition: str
    backend: str
    wish: Literal["", "enabled", "drained", "closed"]
    by: str
    since: float | None
    backend_state: str
    slurm_state: str
    wanted_state: str
    running: int
    queued: int
    reason: str


class PartitionStates(Document, kw_only=True):
    partitions: list[PartitionState]


class DispatcherBackend(Document, kw_only=True):
    name: str
    state: str
    reason: str
    since: float
    qubits: int
    max_shots: int
    default_shots: int
    runtimes: int
    queued: int
    executing: int
    policy: str
    sessions: int
    lanes: int


class DispatcherBackends(Document, kw_only=True):
    backends: list[DispatcherBackend]


class Reserved(Document, kw_only=True):
    reservation: int
    note: str


class ReservedWindow(Document, kw_only=True):
    id: int
    backend: str
    begins: float
    ends: float
    center: str
    job_id: int
    reason: str


class Reservations(Document, kw_only=True):
    reservations: list[ReservedWindow]


class DispatcherTask(Document, kw_only=True):
    job_id: int
    restart: int
    center: str
    backend: str
    kind: str
    state: str
    since: float
    executions: int
    queued: int
    executing: int
    over: bool


class DispatcherHold(Document, kw_only=True):
    backend: str
    job_id: int
    center: str
    by: Literal["session", "lane"]
    since: float
    idle_s: float | None
    until: float | None


class QueuedCircuit(Document, kw_only=True):
    backend: str
    position: int
    job_id: int
    restart: int
    center: str
    seq: int
    shots: int
    since: float
    reason: str


class WarmRuntimes(Document, kw_only=True):
    ready: int
    wanted: int
    given: int
    cold: int
    starting: int
    confined: bool
    pid: int


class DispatcherStatus(Document, kw_only=True):
    version: str
    pid: int
    started: float
    ready: bool
    reason: str
    backends: list[DispatcherBackend]
    tasks: list[DispatcherTask]
    reservations: list[ReservedWindow]
    scope: Literal["all", "own", "none"]
    scope_reason: str
    open_jobs: int
    holds: list[DispatcherHold]
    queue: list[QueuedCircuit]
    queue_left: dict[str, int]
    runtimes: WarmRuntimes | None


ROWS: dict[str, type[Document]] = {
    "`submit FILE`": Submitted,
    "`submit` of many files, or of a sweep in parts": Many,
    "`submit --wait` of many files": ManyEnded,
    "`submit --dry-run`": Payload,
    "`wait JOBID…`": EndedJobs,
    "`submit --wait`, `wait JOBID`": EndedJob,
    "`queue`": Queue,
    "`show JOBID`": ShownJob,
    "`show` of an array": ShownArray,
    "`cancel`": Cancelled,
    "`hold`, `release`": HeldJobs,
    "`results` of a circuit": Counts,
    "`results` of a hybrid job, a session": FinalResult,
    "`results` of an array": ArrayResults,
    "`logs`": Log,
    "`history`": History,
    "`usage`": Usage,
    "`info`": Info,
    "`run` of a circuit": CircuitRun,
    "`run` of a hybrid file": HybridRun,
    "`session FILE`": SessionRun,
    "`doctor`": Doctor,
    "`center init`": NewConfiguration,
    "`token renew`": RenewedToken,
    "`token renewal`": RenewalTerms,
    "`token keys`": Keys,
    "`token check`": TokenCheck,
    "`agent status`": AgentStatus,
    "`partition status`": PartitionStates,
    "`backend list`": DispatcherBackends,
    "`backend reserve`": Reserved,
    "`backend reservations`": Reservations,
    "`dispatcher status`": DispatcherStatus,
}
"""By the first cell of a row of docs/json.md."""


def check(text: str, schema: type[Document]) -> Any:
    """The one document in a command's output; msgspec.ValidationError if it is not of this type."""
    (line,) = text.splitlines()
    document = msgspec.json.decode(line, type=schema)
    if isinstance(document, ArrayResults):
        for one in document.tasks:
            kinds = {"circuit": Counts, "hybrid": FinalResult, "session": FinalResult}
            msgspec.convert(one, NoResult if "error" in one else kinds[one["kind"]])
    if isinstance(document, EndedJobs):
        for one in document.jobs:
            msgspec.convert(one, EndedJob if "name" in one else UnknownJob)
    return document
