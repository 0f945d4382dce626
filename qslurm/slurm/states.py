"""Tables of Slurm's job states and pending reasons."""

from __future__ import annotations

import re
import signal
from dataclasses import dataclass
from typing import Literal

from qslurm.errors import QslurmError

Outcome = Literal["completed", "failed", "cancelled", "timed_out"]


@dataclass(frozen=True)
class State:
    """A Slurm job state: the `word` shown and, if final, the outcome."""

    word: str
    outcome: Outcome | None = None


# From squeue(1), "JOB STATE CODES". REQUEUED and SPECIAL_EXIT go back to the queue, so they are not final;
# STOPPED and SUSPENDED jobs keep their allocation.
STATES: dict[str, State] = {
    "PENDING": State("waiting"),
    "CONFIGURING": State("starting"),
    "RUNNING": State("running"),
    "COMPLETING": State("finishing"),
    "STAGE_OUT": State("finishing"),
    "SIGNALING": State("running"),
    "SUSPENDED": State("suspended"),
    "STOPPED": State("suspended"),
    "RESIZING": State("running"),
    "REQUEUED": State("requeued"),
    "REQUEUE_FED": State("requeued"),
    "REQUEUE_HOLD": State("held"),
    "SPECIAL_EXIT": State("held"),
    "RESV_DEL_HOLD": State("held"),
    "COMPLETED": State("completed", "completed"),
    "FAILED": State("failed", "failed"),
    "BOOT_FAIL": State("failed", "failed"),
    "NODE_FAIL": State("failed", "failed"),
    "OUT_OF_MEMORY": State("failed", "failed"),
    "LAUNCH_FAILED": State("failed", "failed"),
    "RECONFIG_FAIL": State("failed", "failed"),
    "CANCELLED": State("cancelled", "cancelled"),
    "PREEMPTED": State("cancelled", "cancelled"),
    "REVOKED": State("cancelled", "cancelled"),
    "TIMEOUT": State("timed out", "timed_out"),
    "DEADLINE": State("timed out", "timed_out"),
}

# squeue's short names (the same page); the last two are from slurmctld (24.05).
CODES: dict[str, str] = {
    "PD": "PENDING",
    "CF": "CONFIGURING",
    "R": "RUNNING",
    "CG": "COMPLETING",
    "SO": "STAGE_OUT",
    "SI": "SIGNALING",
    "S": "SUSPENDED",
    "ST": "STOPPED",
    "RS": "RESIZING",
    "RQ": "REQUEUED",
    "RF": "REQUEUE_FED",
    "RH": "REQUEUE_HOLD",
    "SE": "SPECIAL_EXIT",
    "RD": "RESV_DEL_HOLD",
    "CD": "COMPLETED",
    "F": "FAILED",
    "BF": "BOOT_FAIL",
    "NF": "NODE_FAIL",
    "OOM": "OUT_OF_MEMORY",
    "CA": "CANCELLED",
    "PR": "PREEMPTED",
    "RV": "REVOKED",
    "TO": "TIMEOUT",
    "DL": "DEADLINE",
    "LF": "LAUNCH_FAILED",
    "RC": "RECONFIG_FAIL",
}

# Why a job waits or ended, in words a researcher can act on. The names are slurmctld's (squeue(1), "JOB
# REASON CODES").
REASONS: dict[str, str] = {
    "PartitionDown": "the partition is held by the platform; the job starts when it is enabled",
    "PartitionInactive": "the partition is closed by the platform; the job starts when it is opened again",
    "Priority": "jobs with higher priority are ahead",
    "Resources": "the backend's classical nodes are busy",
    "BeginTime": "its begin time has not come, or it was just requeued",
    "Dependency": "the job waits for another job",
    "DependencyNeverSatisfied": "its dependency can no longer be satisfied; cancel it",
    "JobHeldUser": "the job is held by its user; `qslurm release` releases it",
    "JobHeldAdmin": "the job is held by C2's operators",
    "Reservation": "the job waits for its reservation to begin",
    "ReservationDeleted": "its reservation no longer exists; cancel it",
    "ReqNodeNotAvail": "the nodes it needs are down, drained or reserved",
    "NodeDown": "a node it needs is down",
    "Licenses": "the job waits for a license",
    "PartitionTimeLimit": "its time limit exceeds the partition's",
    "PartitionNodeLimit": "it requests more nodes than the partition allows",
    "AssocGrpJobsLimit": "the center has reached its limit of running jobs",
    "AssocMaxJobsLimit": "the center has reached its limit of running jobs",
    "AssocGrpSubmitJobsLimit": "the center has reached its limit of queued jobs",
    "AssocMaxSubmitJobLimit": "the center has reached its limit of queued jobs",
    "QOSMaxJobsPerUserLimit": "its quality of service has reached its limit of running jobs",
    "QOSGrpJobsLimit": "its quality of service has reached its limit of running jobs",
    "InvalidAccount": "its account does not exist on C2",
    "InvalidQOS": "its quality of service does not exist on C2",
    "Prolog": "the dispatcher is admitting the job",
    "Cleaning": "its previous run is still being cleaned up",
    "JobHoldMaxRequeue": "it was requeued too often and is held",
    "JobArrayTaskLimit": "its array has reached its limit of running tasks",
    "SystemFailure": "C2's Slurm failed",
    "JobLaunchFailure": "the job could not be launched",
    "NonZeroExitCode": "its script failed",
    "TimeLimit": "it reached its time limit",
    "RaisedSignal": "its script was killed by a signal",
    "OutOfMemory": "it exceeded its memory limit",
    # not Slurm's own: see qslurm.c1.agent.request_handler,
    "Submitted": "C2 has just accepted it",
    "Outbox": "it is in the agent's outbox; C2 has not accepted it yet",
    # and qslurm.c1.agent.reconcile and qslurm.c1.queries.lost_jobs
    "LostByC2": "C2 no longer lists it; the center's agent checks whether it ran, and resubmits it if not",
    "LostForGood": "C2 lost it three times without running it, so the agent gave up; submit it again",
    "LostInPart": "C2's Slurm was killed and lost the array after part of it had run; submit the rest again",
    "ForgottenBySlurmctld": "C2's Slurm was killed and lost it before it ran; submit it again",
}


OF_WAITING = frozenset(
    {
        *(
            "PartitionDown",
            "PartitionInactive",
            "Priority",
            "Resources",
            "BeginTime",
            "Dependency",
            "JobHeldUser",
        ),
        *(
            "JobHeldAdmin",
            "Reservation",
            "ReqNodeNotAvail",
            "Licenses",
            "Prolog",
            "Cleaning",
            "JobArrayTaskLimit",
        ),
        *("AssocGrpJobsLimit", "AssocMaxJobsLimit", "QOSMaxJobsPerUserLimit", "QOSGrpJobsLimit"),
    }
)
"""Reasons of pending jobs. Slurm leaves them on jobs that were cancelled, where they mean nothing."""

NOT_IN_LINE = ("JobHeldUser", "JobHeldAdmin", "Dependency", "DependencyNeverSatisfied", "BeginTime")
"""Reasons of jobs that wait for something other than their queue position."""


def known_state(name: str) -> State:
    """Look up a state; QslurmError if unknown."""
    try:
        return STATES[name]
    except KeyError:
        raise QslurmError(
            f"Unknown job state {name!r}.",
            hint="Update qslurm.",
        ) from None


def is_final(name: str) -> bool:
    """Whether a job in this state has ended; False for an unknown state."""
    return name in STATES and STATES[name].outcome is not None


def outcome(name: str) -> Outcome:
    """The outcome of a final state; QslurmError for others."""
    ended = known_state(name).outcome
    if ended is None:
        raise QslurmError(f"Job state {name} is not final.", hint="Wait for it first.")
    return ended


def word(name: str) -> str:
    """The state as a word for people; an unknown one in lower case."""
    return STATES[name].word if name in STATES else name.lower().replace("_", " ")


RAISED_SIGNAL = re.compile(r"RaisedSignal:(\d+)(\(core\))?")
"""The reason of a job that was killed by a signal (23.02 and later: "RaisedSignal:11(Segmentation_fault)"). C2's hooks
set it for older versions.
"""


def raised_signal(status: int) -> str:
    """The reason of a batch script killed by a signal, from its wait status."""
    return f"RaisedSignal:{status & 0x7F}" + ("(core)" if status & 0x80 else "")


def by_signal(number: int, *, core_dumped: bool = False) -> str:
    """Describes a batch script killed by a signal."""
    return f"its script was killed by {_named(number)}" + (", and dumped core" if core_dumped else "")


def with_exit_code(code: int) -> str:
    """Describes a batch script's exit code; shells use 128 plus a signal's number."""
    of = f", as of a command killed by {_named(code - 128)}" if code - 128 in _SIGNALS else ""
    return f"its script exited with code {code}{of}"


_SIGNALS = {int(one) for one in signal.Signals}


def _named(number: int) -> str:
    name = f" ({signal.Signals(number).name})" if number in _SIGNALS else ""
    return f"signal {number}{name}"


def is_reason(text: str) -> bool:
    """Whether this is a reason name of Slurm, rather than a sentence."""
    return text in REASONS or RAISED_SIGNAL.match(text) is not None


def explain(reason: str) -> str:
    """A reason in words; Slurm's name if the table has none, "" if there is no reason."""
    if reason in ("", "None"):
        return ""
    if found := RAISED_SIGNAL.match(reason):
        return by_signal(int(found[1]), core_dumped=found[2] is not None)
    return REASONS.get(reason, reason)


def pick(names: object) -> str:
    """A record's state: a string up to v0.0.39, then a list of the state and flags.

    A flag such as COMPLETING takes precedence, so that a job is not final while one of its names is not.
    """
    if isinstance(names, str):
        return names
    known = [name for name in names if isinstance(name, str)] if isinstance(names, list) else []
    return next((name for name in known if not is_final(name)), known[0] if known else "PENDING")
