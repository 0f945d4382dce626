"""What C2's hooks say for Slurm: a job is about to start, its script begins or has ended, a start of it is over.

And what the gate asks, in case slurmctld has forgotten what they said.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from qslurm.payload.envelope import Envelope, Kind
from qslurm.protocol.messages.message import Message, Number
from qslurm.reason_codes import ReasonCode

MOST_ENDS = 10_000
"""Jobs that may be asked about in one GetEnds."""


class Admit(Message, frozen=True):
    """Slurm has picked this job to run: may it? Asked by the prolog plugin; asking again changes nothing."""

    job_id: Number
    restart: Number
    user: str
    uid: Number
    account: str
    center: str
    backend: str
    kind: Kind
    name: str = ""
    key: str = ""
    origin: str = ""
    envelope: Envelope | None = None


class Admitted(Message, frozen=True):
    """Yes: the dispatcher expects the job."""


class TurnedAway(Message, frozen=True):
    """Not now, or never. With `retry` the job goes back to Slurm's queue, without it is cancelled."""

    reason: str
    retry: bool


class Begin(Message, frozen=True):
    """A job's batch script is about to run, says its TaskProlog: may it? A script runs once.

    `launch` is a word that tells this launch from others, so that asking again changes nothing.
    """

    job_id: Number
    restart: Number
    launch: str


class End(Message, frozen=True):
    """The job's batch script has ended, says its TaskEpilog, which does not know how."""

    job_id: Number
    restart: Number
    ended_at: float | None = None
    """When, in Unix seconds; None from a node with an older qslurm."""


class Finish(Message, frozen=True):
    """The job's start is over. `state` is Slurm's: COMPLETED, FAILED, CANCELLED, TIMEOUT, REQUEUED …"""

    job_id: Number
    restart: Number
    state: str
    exit_code: int | None = None
    reason: str = ""
    reason_code: ReasonCode = ReasonCode.NONE
    key: str = ""
    """The key in the job's comment, if known: after a crash Slurm may give a job id away a second time."""

    ended_at: float | None = None
    """When slurmctld put it back, cancelled it or heard of its end, in Unix seconds, if known."""


class GetEnds(Message, frozen=True):
    """Of which of these jobs is the last start over, as far as the dispatcher knows? Asked by the gate."""

    job_ids: Annotated[list[Number], msgspec.Meta(max_length=MOST_ENDS)]


class KnownEnd(Message, frozen=True):
    """The last start of a job, which is over: its script has ended, or Slurm has said so."""

    job_id: Number
    restart: Number
    center: str
    backend: str
    key: str
    admitted_at: float
    ended_at: float


class Ends(Message, frozen=True):
    """The answer to GetEnds; what has not ended, or is not known, is not in it."""

    ends: list[KnownEnd]
