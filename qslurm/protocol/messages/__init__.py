"""What hooks, operators, classical runtimes and quantum runtimes say to the dispatcher, and what it answers.

Every message is a frozen struct, tagged with its name and carried as MessagePack: data only, never code.
Times are Unix seconds, durations seconds. `job_id` is C2's Slurm job id, `restart` its restart count
(SLURM_RESTART_COUNT): together they name one start of one job.
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
    TurnedAway,
)
from qslurm.protocol.messages.message import Done, Message, Number, Refused
from qslurm.protocol.messages.operators import Release, Reserve, Reserved, SetBackend
from qslurm.protocol.messages.runtimes import Join, Lease, LeaseOver, Report, Result, Run, Seat
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
    | Result
    | LeaseOver
)  # what the dispatcher answers
Reply = (
    Admitted
    | TurnedAway
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
    "Message",
    "Metrics",
    "Number",
    "Pending",
    "Refused",
    "Release",
    "Reply",
    "Report",
    "Request",
    "Reserve",
    "Reserved",
    "Result",
    "Run",
    "Seat",
    "SetBackend",
    "Status",
    "TaskStatus",
    "TurnedAway",
    "WaitingStatus",
    "circuit_digest",
]
