"""What the gate and the job manager say to each other over a Unix socket.

The job manager listens, and says whether anybody follows; the gate connects, and tells how the jobs are.
"""

from __future__ import annotations

import msgspec

from qslurm.slurm.job_info import JobInfo

LARGEST = 512 * 1024 * 1024
"""Bytes of a message; a million jobs are some 250 MB."""


class Update(msgspec.Struct, tag="update"):
    """Jobs that are new or have changed, and the ids of those that slurmctld knows no more.

    `reset`: these are all there are. `look`: the newest question that had been asked when this look began.
    """

    rows: list[JobInfo] = []
    gone: list[int] = []
    reset: bool = False
    look: int = 0


class Still(msgspec.Struct, tag="still"):
    """Nothing has changed, and the gate is there. `look` as for Update."""

    look: int = 0


class Trouble(msgspec.Struct, tag="trouble"):
    """The gate can't know how the jobs are, and why."""

    reason: str


class Wanted(msgspec.Struct, tag="wanted"):
    """Whether somebody follows: while nobody does, the gate does not look.

    `look` numbers the questions of who wants to know how the jobs are now, and not half a second ago.
    """

    wanted: bool
    look: int = 0


Said = Update | Still | Trouble

said: msgspec.msgpack.Decoder[Said] = msgspec.msgpack.Decoder(Said)
wanted: msgspec.msgpack.Decoder[Wanted] = msgspec.msgpack.Decoder(Wanted)
