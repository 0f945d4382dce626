"""The requests of hooks, operators, job steps and quantum runtimes to the dispatcher, and its replies.

Each message is a frozen struct, tagged with its class name and sent as MessagePack. Times are Unix seconds, durations
seconds. `job_id` is C2's Slurm job id and `restart` its restart count (SLURM_RESTART_COUNT): together they identify one
start of a job.
"""

from __future__ import annotations

from qslurm.protocol.messages.hooks import (
    MOST_ENDS,
    Admit,
    Admitted,
    Begin,
    End,
    Ends,
    Finish,
    GetEnds,
    KnownEnd,
    NotAdmitted,
)
from qslurm.protocol.messages.message import Done, Message, Number, Refused
from qslurm.protocol.messages.operators import Release, Reserve, Reserved, SetBackend
from qslurm.protocol.messages.runtimes import Join, Lease, LeasedTask, LeaseOver, OrderResult, Report, Run
from qslurm.protocol.messages.status import (
    BackendStatus,
    GetMetrics,
    GetStatus,
    HoldStatus,
    Metrics,
    Status,
    TaskStatus,
    WaitingStatus,
)
from qslurm.protocol.messages.steps import (
    CIRCUIT_BYTES_IN_SESSION,
    END,
    OPEN_EXECUTIONS,
    OPEN_IN_SESSION,
    Attach,
    Attached,
    Attend,
    Await,
    Conclude,
    Execute,
    Executed,
    Pending,
    circuit_digest,
)

Request = (
    Admit
    | Finish
    | GetEnds
    | SetBackend
    | Reserve
    | Release
    | GetStatus
    | GetMetrics
    | Attach
    | Begin
    | End
    | Execute
    | Await
    | Conclude
    | Attend
    | Join
    | Report
    | OrderResult
    | LeaseOver
)
Reply = (
    Admitted
    | NotAdmitted
    | Done
    | Ends
    | Reserved
    | Status
    | Metrics
    | Refused
    | Attached
    | Pending
    | Executed
    | Run
    | Lease
)

__all__ = [
    "CIRCUIT_BYTES_IN_SESSION",
    "END",
    "MOST_ENDS",
    "OPEN_EXECUTIONS",
    "OPEN_IN_SESSION",
    "Admit",
    "Admitted",
    "Attach",
    "Attached",
    "Attend",
    "Await",
    "BackendStatus",
    "Begin",
    "Conclude",
    "Done",
    "End",
    "Ends",
    "Execute",
    "Executed",
    "Finish",
    "GetEnds",
    "GetMetrics",
    "GetStatus",
    "HoldStatus",
    "Join",
    "KnownEnd",
    "Lease",
    "LeaseOver",
    "LeasedTask",
    "Message",
    "Metrics",
    "NotAdmitted",
    "Number",
    "OrderResult",
    "Pending",
    "Refused",
    "Release",
    "Reply",
    "Report",
    "Request",
    "Reserve",
    "Reserved",
    "Run",
    "SetBackend",
    "Status",
    "TaskStatus",
    "WaitingStatus",
    "circuit_digest",
]
