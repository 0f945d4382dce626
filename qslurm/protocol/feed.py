"""Messages between the gate and the job manager, over a Unix socket.

The job manager listens and says whether any client follows jobs; the gate connects and sends how the jobs change.
"""

from __future__ import annotations

import msgspec

from qslurm.slurm.job_info import JobInfo

MESSAGE_LIMIT = 512 * 1024 * 1024
"""The largest message, in bytes. A million jobs are some 250 MB."""


class Update(msgspec.Struct, tag="update"):
    """New and changed jobs, and the ids of jobs that slurmctld has forgotten.

    With `reset`, `rows` are all jobs. `request` is the newest request that this read of the queue answers.
    """

    rows: list[JobInfo] = []
    gone: list[int] = []
    reset: bool = False
    request: int = 0


class Unchanged(msgspec.Struct, tag="still"):
    """No job has changed; the gate is alive. `request` as in Update."""

    request: int = 0


class Unavailable(msgspec.Struct, tag="trouble"):
    """The gate cannot read the queue, because of `reason`."""

    reason: str


class Subscription(msgspec.Struct, tag="wanted"):
    """Whether any client follows jobs; otherwise the gate does not read the queue.

    `request` counts requests for the queue as it is now. A change of it makes the gate read at once.
    """

    wanted: bool
    request: int = 0


GateMessage = Update | Unchanged | Unavailable

gate_decoder: msgspec.msgpack.Decoder[GateMessage] = msgspec.msgpack.Decoder(GateMessage)
subscription_decoder: msgspec.msgpack.Decoder[Subscription] = msgspec.msgpack.Decoder(Subscription)
