"""What C2's hooks say for Slurm: a job is about to start, its script begins or has ended, a start of it is over."""

from __future__ import annotations

from qslurm.dispatcher.messages.message import Message, Number
from qslurm.payload.envelope import Envelope, Kind


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


class Finish(Message, frozen=True):
    """The job's start is over. `state` is Slurm's: COMPLETED, FAILED, CANCELLED, TIMEOUT, REQUEUED …"""

    job_id: Number
    restart: Number
    state: str
    exit_code: int | None = None
    reason: str = ""
    key: str = ""
    """The key in the job's comment, if known: after a crash Slurm may give a job id away a second time."""
