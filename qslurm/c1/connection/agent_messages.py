"""The protocol between users' commands and the agent: authenticated requests and answers.

Over the Unix socket the kernel says who asks and the credential is empty; over TCP it is MUNGE's, made for this very
question.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

from qslurm.slurm.job_info import JobInfo
from qslurm.wire.failures import Failed

LARGEST_QUESTION = 8 * 1024 * 1024
"""Bytes; a payload has at most 4 MB, and JSON in msgpack takes little more."""

LARGEST_ANSWER = 256 * 1024 * 1024

JobId = Annotated[int, msgspec.Meta(ge=0, lt=2**32)]
Count = Annotated[int, msgspec.Meta(ge=0, lt=2**62)]
Seconds = Annotated[float, msgspec.Meta(ge=0.0, le=1e9)]
Key = Annotated[str, msgspec.Meta(max_length=200)]
JobOnC1 = Annotated[
    str, msgspec.Meta(pattern=r"\A(?:[\w.-]{1,64}:[0-9]{1,10}(?:_[0-9]{1,10})?:[0-9]{1,6})?\Z")
]
"""`cluster:id:restarts`. The releaser asks Slurm for it beside everybody else's, so Slurm must be able to read it."""


class Hello(msgspec.Struct, tag="hello"):
    """The center's user on C2 and the API version. Facts."""


class Submit(msgspec.Struct, tag="submit"):
    """Take this payload into the outbox, if its key is not there yet, and say what has become of it. Submission.

    The answer comes when C2 has accepted or refused it, or after `patience_s` with the state it is in.
    `waits` is the job of C1 (`cluster:id:restarts`) without which it is cancelled; `followed` says that a job is held
    on C1 until it has ended.
    """

    key: Key
    payload: dict[str, Any]
    patience_s: Seconds = 20.0
    waits: JobOnC1 = ""
    followed: bool = False


class GetJob(msgspec.Struct, tag="job"):
    """One of the user's jobs. JobInfo."""

    job_id: JobId


class GetJobs(msgspec.Struct, tag="jobs"):
    """The user's jobs that C2 or the outbox knows; with `key`, the one submission that has it. JobInfos.

    Of others' open jobs there is only what the user's own place in line depends on; they are of no user.
    """

    key: Key = ""


class GetQueue(msgspec.Struct, tag="queue"):
    """The user's jobs with their places in line, all of the center's for an admin. A Line (protocol/job_changes.py)."""


class GetMoved(msgspec.Struct, tag="moved"):
    """The user's jobs that changed after an answer with this number. Moved.

    The answer comes when one has, when some were missed, or after `patience_s`.
    """

    since: Count
    patience_s: Seconds = 0.0


class GetTasks(msgspec.Struct, tag="tasks"):
    """One of the user's jobs, or each task of an array. JobInfos.

    With `seen`, which is how the job or task `waits_for` was, the answer comes once that is another, or after
    `patience_s`.
    """

    job_id: JobId
    waits_for: JobId = 0
    seen: str = ""
    patience_s: Seconds = 0.0


class GetAccounted(msgspec.Struct, tag="accounted"):
    """The user's jobs that C2's accounting knows, as far as they were there after `since` (Unix seconds). JobInfos.

    With `array` only the tasks of this one; the rest of the accounting is not looked through then.
    """

    since: Count
    array: JobId = 0


class CancelJob(msgspec.Struct, tag="cancel"):
    """Cancel one of the user's jobs, or one task of an array. C2's warnings."""

    job_id: JobId
    task: JobId | None = None


class UpdateJob(msgspec.Struct, tag="update"):
    """Hold one of the user's jobs that wait, or release it. C2's warnings."""

    job_id: JobId
    hold: bool


class AskPlatform(msgspec.Struct, tag="platform"):
    """The job manager's record of one of the user's jobs. A document."""

    what: Literal["job", "results"]
    job_id: JobId


class GetResults(msgspec.Struct, tag="results"):
    """Results, or `error`, of these jobs of the user; maybe of the first ones only.

    Documents.
    """

    jobs: Annotated[list[JobId], msgspec.Meta(max_length=250)]


class GetStarts(msgspec.Struct, tag="starts"):
    """Every start of one of the user's submissions that C2's platform knows, newest first. Documents."""

    key: Key


class GetBackends(msgspec.Struct, tag="backends"):
    """C2's backends. Documents. `at_hand`: as they were a while ago, rather than waiting for C2."""

    at_hand: bool = False


class GetSessions(msgspec.Struct, tag="sessions"):
    """Address and certificate of C2's session server. A document."""


class GetPartitions(msgspec.Struct, tag="partitions"):
    """The state of each of C2's partitions, by name."""


class GetLoads(msgspec.Struct, tag="loads"):
    """Numbers of pending and running jobs of all centers, by partition. Loads."""


class GetUsage(msgspec.Struct, tag="usage"):
    """The user's usage in a period (Unix seconds), everybody's for an admin. Documents."""

    since: Count
    until: Count


class GetEnded(msgspec.Struct, tag="ended"):
    """The latest of the user's jobs that the platform has run. Documents."""

    limit: Count = 1000


class GetLog(msgspec.Struct, tag="log"):
    """Output of one of the user's jobs, from `offset`. A Piece."""

    job_id: JobId
    offset: Count = 0


class GetStatus(msgspec.Struct, tag="status"):
    """The agent's status. AgentStatus."""


class WhoReleases(msgspec.Struct, tag="who_releases"):
    """The agent's releaser. Releasing."""


class LetGo(msgspec.Struct, tag="let_go"):
    """The user's submission goes on when the job of C1 that waited for it has ended."""

    key: Key


class GetEndings(msgspec.Struct, tag="endings"):
    """Outcomes of these submissions, and the C1 jobs in `cluster` that wait for one; for the releaser. Endings.

    The answer comes when one has ended, when there are `news` that the asker does not know, or after `patience_s`.
    """

    keys: list[str]
    cluster: str
    news: int = -1
    patience_s: Seconds = 0.0


class EndBound(msgspec.Struct, tag="end_bound"):
    """The job of C1 that waited for this submission is gone: cancel its job on C2. For the releaser."""

    key: Key


Question = (
    Hello
    | Submit
    | GetJob
    | GetJobs
    | GetQueue
    | GetMoved
    | GetTasks
    | GetAccounted
    | CancelJob
    | UpdateJob
    | AskPlatform
    | GetResults
    | GetStarts
    | GetBackends
    | GetSessions
    | GetLoads
    | GetPartitions
    | GetUsage
    | GetEnded
    | GetLog
    | GetStatus
    | WhoReleases
    | LetGo
    | GetEndings
    | EndBound
)


class Facts(msgspec.Struct):
    """The agent's identity on C2."""

    user: str
    api_version: str


class TokenState(msgspec.Struct):
    """The center's token: times are Unix seconds by C2's clock, `clock_off_s` is how far ours is ahead of that.

    `trouble` says why it can't be kept fresh; `renewable_until` None: C2 has not said yet. `ends_soon`: renewals end
    before the next token would have lived as long as this one.
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
    releaser: Releasing | None = None


class Submission(msgspec.Struct):
    """A submission in the outbox. `reason` says why it is not on C2 yet."""

    state: Literal["waiting", "accepted"]
    job_id: int = 0
    warnings: list[str] = []
    message: str = ""
    reason: str = ""


class Releasing(msgspec.Struct):
    """Under which name the releaser knows follow-ups (nothing: there is none), and for how long it was not heard."""

    name: str
    silent_s: float = 0.0


class Moved(msgspec.Struct):
    """The jobs that have changed, arrays as a whole; with `missed` it may be any. `number` is this answer's.

    `states` has the new states of these jobs, and of their tasks, as far as the agent follows them.
    """

    number: int
    jobs: list[int] = []
    missed: bool = False
    states: list[JobInfo] = []


class Ending(msgspec.Struct):
    """A submission's outcome (unknown, open, refused, lost, or its job's), its user, job and reason."""

    key: str
    how: str
    user: str = ""
    job_id: int = 0
    why: str = ""


class Endings(msgspec.Struct):
    """`bound` has the jobs of C1 that wait, by the key of what they wait for."""

    endings: list[Ending]
    bound: dict[str, str]
    news: int


class Piece(msgspec.Struct):
    """A piece of a log, and the offset of the next."""

    data: bytes
    next_offset: int


class Answered(msgspec.Struct, tag="answer"):
    """The answer, as plain data of the type that the question's docstring names."""

    value: Any = None


Answer = Answered | Failed

questions: msgspec.msgpack.Decoder[Question] = msgspec.msgpack.Decoder(Question)
answers: msgspec.msgpack.Decoder[Answer] = msgspec.msgpack.Decoder(Answer)
encode = msgspec.msgpack.encode
