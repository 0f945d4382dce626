"""The protocol between users' commands and the agent: authenticated requests and responses.

Over the Unix socket the kernel authenticates the user and the credential is empty; over TCP it is a MUNGE credential
for this request.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

from qslurm.slurm.job_info import JobInfo
from qslurm.wire.failures import Failed

MAX_REQUEST_BYTES = 8 * 1024 * 1024
"""A payload has at most 4 MB; JSON takes little more in MessagePack."""

MAX_RESPONSE_BYTES = 256 * 1024 * 1024

JobId = Annotated[int, msgspec.Meta(ge=0, lt=2**32)]
Count = Annotated[int, msgspec.Meta(ge=0, lt=2**62)]
Seconds = Annotated[float, msgspec.Meta(ge=0.0, le=1e9)]
Key = Annotated[str, msgspec.Meta(max_length=200)]
JobOnC1 = Annotated[
    str, msgspec.Meta(pattern=r"\A(?:[\w.-]{1,64}:[0-9]{1,10}(?:_[0-9]{1,10})?:[0-9]{1,6})?\Z")
]
"""`cluster:id:restarts`. The releaser passes it to Slurm's commands together with others."""


class GetIdentity(msgspec.Struct, tag="hello"):
    """The center's user on C2 and the API version. Response: AgentIdentity."""


class Submit(msgspec.Struct, tag="submit"):
    """Store this payload in the outbox, unless its key is there already. Response: Submission.

    Answered when C2 has accepted or refused it, or after `patience_s` with its current state. `waits` is the C1 job
    (`cluster:id:restarts`) with whose end it is cancelled; `followed`: a C1 job is held until it has ended.
    """

    key: Key
    payload: dict[str, Any]
    patience_s: Seconds = 20.0
    waits: JobOnC1 = ""
    followed: bool = False


class GetJob(msgspec.Struct, tag="job"):
    """One of the user's jobs. Response: JobInfo."""

    job_id: JobId


class GetJobs(msgspec.Struct, tag="jobs"):
    """The user's jobs on C2 or in the outbox; with `key`, the submission that has it. Response: list[JobInfo].

    Other users' open jobs are included anonymously, since queue positions depend on them.
    """

    key: Key = ""


class GetQueue(msgspec.Struct, tag="queue"):
    """The user's jobs with queue positions, all of the center's for an admin. Response: QueueListing."""


class GetChangedJobs(msgspec.Struct, tag="moved"):
    """The user's jobs that changed after a response with this number. Response: ChangedJobs.

    Answered when one has changed, when changes were missed, or after `patience_s`.
    """

    since: Count
    patience_s: Seconds = 0.0


class GetTasks(msgspec.Struct, tag="tasks"):
    """One of the user's jobs, or each task of an array. Response: list[JobInfo].

    With `seen`, the last visible state of the job or task `waits_for`: answered when that changes, or after
    `patience_s`.
    """

    job_id: JobId
    waits_for: JobId = 0
    seen: str = ""
    patience_s: Seconds = 0.0


class GetAccounted(msgspec.Struct, tag="accounted"):
    """The user's jobs in C2's accounting that existed after `since` (Unix seconds). Response: list[JobInfo].

    With `array` only that array's tasks, without searching the rest.
    """

    since: Count
    array: JobId = 0


class CancelJob(msgspec.Struct, tag="cancel"):
    """Cancel one of the user's jobs, or one task of an array. Response: C2's warnings."""

    job_id: JobId
    task: JobId | None = None


class UpdateJob(msgspec.Struct, tag="update"):
    """Hold or release one of the user's pending jobs. Response: C2's warnings."""

    job_id: JobId
    hold: bool


class GetPlatformRecord(msgspec.Struct, tag="platform"):
    """The job manager's record of one of the user's jobs. A document."""

    what: Literal["job", "results"]
    job_id: JobId


class GetResults(msgspec.Struct, tag="results"):
    """Results, or `error`, of these jobs of the user; at least of the first ones.

    Response: documents.
    """

    jobs: Annotated[list[JobId], msgspec.Meta(max_length=250)]


class GetStarts(msgspec.Struct, tag="starts"):
    """Every start of one of the user's submissions on C2's platform, newest first. Response: documents."""

    key: Key


class GetBackends(msgspec.Struct, tag="backends"):
    """C2's backends; with `at_hand` the agent's cached ones. Response: documents."""

    at_hand: bool = False


class GetSessions(msgspec.Struct, tag="sessions"):
    """Address and certificate of C2's session server. A document."""


class GetPartitions(msgspec.Struct, tag="partitions"):
    """The state of each of C2's partitions, by name."""


class GetLoads(msgspec.Struct, tag="loads"):
    """Numbers of pending and running jobs of all centers, by partition. Response: list[Load]."""


class GetUsage(msgspec.Struct, tag="usage"):
    """The user's usage in a period (Unix seconds), all users' for an admin. Response: documents."""

    since: Count
    until: Count


class GetEnded(msgspec.Struct, tag="ended"):
    """The latest of the user's jobs that the platform has run. Response: documents."""

    limit: Count = 1000


class GetLog(msgspec.Struct, tag="log"):
    """Output of one of the user's jobs, from `offset`. Response: LogPiece."""

    job_id: JobId
    offset: Count = 0


class GetAgentStatus(msgspec.Struct, tag="status"):
    """The agent's status. Response: AgentStatus."""


class GetReleaser(msgspec.Struct, tag="who_releases"):
    """The agent's releaser. Response: ReleaserState."""


class Unbind(msgspec.Struct, tag="let_go"):
    """Unbind the user's submission from the C1 job that waited for it, so that it continues after that job."""

    key: Key


class GetOutcomes(msgspec.Struct, tag="endings"):
    """Outcomes of these submissions, and the C1 jobs in `cluster` that wait for one; releaser only. Response: Outcomes.

    Answered when one has ended, when the revision is not `news` any more, or after `patience_s`.
    """

    keys: list[str]
    cluster: str
    news: int = -1
    patience_s: Seconds = 0.0


class CancelBound(msgspec.Struct, tag="end_bound"):
    """Cancel the C2 job of a submission whose waiting C1 job has ended; releaser only."""

    key: Key


AgentRequest = (
    GetIdentity
    | Submit
    | GetJob
    | GetJobs
    | GetQueue
    | GetChangedJobs
    | GetTasks
    | GetAccounted
    | CancelJob
    | UpdateJob
    | GetPlatformRecord
    | GetResults
    | GetStarts
    | GetBackends
    | GetSessions
    | GetLoads
    | GetPartitions
    | GetUsage
    | GetEnded
    | GetLog
    | GetAgentStatus
    | GetReleaser
    | Unbind
    | GetOutcomes
    | CancelBound
)


class AgentIdentity(msgspec.Struct):
    """The agent's identity on C2."""

    user: str
    api_version: str


class TokenState(msgspec.Struct):
    """The center's token: times are Unix seconds by C2's clock; `clock_off_s` is how far this clock is ahead.

    `trouble` is why it can't be renewed; `renewable_until` is None until C2 has answered; `ends_soon`: renewals end
    before the next token's full lifetime.
    """

    user: str
    expires: int | None
    renew_at: float | None
    renewable_until: int | None = None
    trouble: str = ""
    ends_soon: bool = False
    clock_off_s: float = 0.0


class AgentStatus(msgspec.Struct):
    """The agent's status: `waiting` submissions are not sent yet, `open` jobs have not ended."""

    token: TokenState
    waiting: int
    open: int
    releaser: ReleaserState | None = None


class Submission(msgspec.Struct):
    """A submission in the outbox. `reason` says why it is not on C2 yet."""

    state: Literal["waiting", "accepted"]
    job_id: int = 0
    warnings: list[str] = []
    message: str = ""
    reason: str = ""


class ReleaserState(msgspec.Struct):
    """The platform's name in follow-ups ("" without a releaser), and the seconds since the releaser's last request."""

    name: str
    silent_s: float = 0.0


class ChangedJobs(msgspec.Struct):
    """The jobs that have changed, arrays as a whole; with `missed` it may be any. `number` is this answer's.

    `states` has the new states of these jobs, and of their tasks, as far as the agent follows them.
    """

    number: int
    jobs: list[int] = []
    missed: bool = False
    states: list[JobInfo] = []


class SubmissionOutcome(msgspec.Struct):
    """A submission's outcome (unknown, open, refused, lost, or its job's), its user, job and reason."""

    key: str
    how: str
    user: str = ""
    job_id: int = 0
    why: str = ""


class Outcomes(msgspec.Struct):
    """`bound`: waiting C1 jobs by submission key; `news`: the revision of the set of dependent C1 jobs."""

    endings: list[SubmissionOutcome]
    bound: dict[str, str]
    news: int


class LogPiece(msgspec.Struct):
    """A piece of a log, and the offset of the next."""

    data: bytes
    next_offset: int


class Answered(msgspec.Struct, tag="answer"):
    """The response, as plain data of the type that the request's docstring names."""

    value: Any = None


AgentResponse = Answered | Failed

request_decoder: msgspec.msgpack.Decoder[AgentRequest] = msgspec.msgpack.Decoder(AgentRequest)
response_decoder: msgspec.msgpack.Decoder[AgentResponse] = msgspec.msgpack.Decoder(AgentResponse)
encode = msgspec.msgpack.encode
