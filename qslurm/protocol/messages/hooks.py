"""Requests of Slurm's hooks on C2, when a job starts and ends, and of the gate, which checks for lost ones."""

from __future__ import annotations

from typing import Annotated

import msgspec

from qslurm.payload.envelope import Envelope, Kind
from qslurm.protocol.messages.message import Message, Number
from qslurm.reason_codes import ReasonCode

MOST_ENDS = 10_000
"""The most jobs in a GetEnds."""


class Admit(Message, frozen=True):
    """Slurm is about to start a job, says the prolog plugin. May be repeated."""

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
    """The job may start; the dispatcher expects its step."""


class NotAdmitted(Message, frozen=True):
    """The job may not start. With `retry` it is requeued, otherwise cancelled."""

    reason: str
    retry: bool


class Begin(Message, frozen=True):
    """A job's batch script is about to run, says TaskProlog. The dispatcher allows one launch of each script.

    `launch` identifies the launch, so that the request may be repeated.
    """

    job_id: Number
    restart: Number
    launch: str


class End(Message, frozen=True):
    """The job's batch script has ended, says TaskEpilog, which does not know its exit code."""

    job_id: Number
    restart: Number
    ended_at: float | None = None
    """None from a node with an older qslurm."""


class Finish(Message, frozen=True):
    """A start of a job has ended. `state` is Slurm's: COMPLETED, FAILED, CANCELLED, TIMEOUT, REQUEUED …"""

    job_id: Number
    restart: Number
    state: str
    exit_code: int | None = None
    reason: str = ""
    reason_code: ReasonCode = ReasonCode.NONE
    key: str = ""
    """The key in the job's comment, if known: after a crash slurmctld may use a job id twice."""

    ended_at: float | None = None
    """When slurmctld requeued or cancelled it, or recorded its end, if known."""


class GetEnds(Message, frozen=True):
    """Ask which of these jobs' last starts have ended. Sent by the gate."""

    job_ids: Annotated[list[Number], msgspec.Meta(max_length=MOST_ENDS)]


class KnownEnd(Message, frozen=True):
    """The last start of a job, which has ended: its script has, or Slurm has reported it."""

    job_id: Number
    restart: Number
    center: str
    backend: str
    key: str
    admitted_at: float
    ended_at: float


class Ends(Message, frozen=True):
    """The reply to GetEnds, without jobs that have not ended or are unknown."""

    ends: list[KnownEnd]
