"""What Slurm's job states and pending reasons mean, as tables."""

from __future__ import annotations

import re
import signal
from dataclasses import dataclass
from typing import Literal

from qslurm.errors import QslurmError

Outcome = Literal["completed", "failed", "cancelled", "timed_out"]


@dataclass(frozen=True)
class State:
    """One state of a Slurm job: the `word` people see and, when the state is final, how the job ended."""

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

# What squeue prints for short, and people type for long (the same page); the last two are slurmctld's own (24.05).
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
    "Priority": "other jobs come first",
    "Resources": "the backend's classical nodes are busy",
    "BeginTime": "its begin time lies ahead, or it was put back in the queue a moment ago",
    "Dependency": "the job waits for another job",
    "DependencyNeverSatisfied": "the job it depends on can no longer end as required; cancel this one",
    "JobHeldUser": "the job is held; whoever submitted it can release it",
    "JobHeldAdmin": "the job is held by C2's operators",
    "Reservation": "the job waits for its reservation to begin",
    "ReservationDeleted": "the reservation it asked for is gone; cancel this one",
    "ReqNodeNotAvail": "the nodes it needs are down, drained or reserved",
    "NodeDown": "a node it needs is down",
    "Licenses": "the job waits for a license",
    "PartitionTimeLimit": "its time limit is longer than the partition allows",
    "PartitionNodeLimit": "it asks for more nodes than the partition allows",
    "AssocGrpJobsLimit": "the center has as many jobs running as it may have",
    "AssocMaxJobsLimit": "the center has as many jobs running as it may have",
    "AssocGrpSubmitJobsLimit": "the center has as many jobs queued as it may have",
    "AssocMaxSubmitJobLimit": "the center has as many jobs queued as it may have",
    "QOSMaxJobsPerUserLimit": "its quality of service allows no more running jobs at once",
    "QOSGrpJobsLimit": "its quality of service allows no more running jobs at once",
    "InvalidAccount": "its account is not known on C2",
    "InvalidQOS": "its quality of service is not known on C2",
    "Prolog": "the job is being handed to the dispatcher",
    "Cleaning": "its previous start is still being cleaned up",
    "JobHoldMaxRequeue": "it was put back in the queue too often and is held",
    "JobArrayTaskLimit": "as many tasks of its array run as may run at once",
    "SystemFailure": "C2's Slurm failed",
    "JobLaunchFailure": "the job could not be launched",
    "NonZeroExitCode": "its script ended with an error",
    "TimeLimit": "it ran into its time limit",
    "RaisedSignal": "its script was ended by a signal",
    "OutOfMemory": "it needed more memory than it may have",
    # not Slurm's own: see qslurm.c1.agent.request_handler,
    "Submitted": "C2 has taken it a moment ago",
    "Outbox": "it is in the center's outbox; C2 has not taken it yet",
    # and qslurm.c1.agent.reconcile and qslurm.c1.queries.forgotten_jobs
    "LostByC2": "C2 does not show it any more; the center's agent finds out whether it ran, and sends it again if not",
    "LostForGood": "C2 has lost it three times without running it, so it is not sent again; submit it again",
    "LostInPart": "C2's Slurm was killed and has forgotten the array when part of it had run; submit the rest again",
    "ForgottenBySlurmctld": "C2's Slurm was killed and has forgotten it; nothing of it was run, so submit it again",
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
"""Reasons that say why a job waits. Slurm leaves them on one that was cancelled meanwhile, where they say nothing."""

NOT_IN_LINE = ("JobHeldUser", "JobHeldAdmin", "Dependency", "DependencyNeverSatisfied", "BeginTime")
"""Reasons of jobs that wait for something other than their turn."""


def known_state(name: str) -> State:
    """What a state's name means; a QslurmError for one that Slurm has not documented."""
    try:
        return STATES[name]
    except KeyError:
        raise QslurmError(
            f"C2 says the job is in state {name!r}, which this version of qslurm does not know.",
            hint="A newer qslurm may know it; `sacct` on C2 does.",
        ) from None


def is_final(name: str) -> bool:
    """Whether a job in this state is over; a state nobody knows is not (it may become one that is known)."""
    return name in STATES and STATES[name].outcome is not None


def outcome(name: str) -> Outcome:
    """How a job in this final state ended; a QslurmError for a state that is not final."""
    ended = known_state(name).outcome
    if ended is None:
        raise QslurmError(f"A job that is {name} has not ended.", hint="Wait for it first.")
    return ended


def word(name: str) -> str:
    """The state as people read it; an unknown one in its own letters, lower-case."""
    return STATES[name].word if name in STATES else name.lower().replace("_", " ")


RAISED_SIGNAL = re.compile(r"RaisedSignal:(\d+)(\(core\))?")
"""How Slurm names a signal as the reason of an end (23.02 and later: "RaisedSignal:11(Segmentation_fault)"), and so do
C2's hooks for an older one.
"""


def raised_signal(status: int) -> str:
    """The reason of a batch script that a signal has ended, from its wait status, as RAISED_SIGNAL reads it."""
    return f"RaisedSignal:{status & 0x7F}" + ("(core)" if status & 0x80 else "")


def by_signal(number: int, *, core_dumped: bool = False) -> str:
    """That a signal has ended a batch script, in words."""
    return f"its script was ended by {_named(number)}" + (", and dumped core" if core_dumped else "")


def with_exit_code(code: int) -> str:
    """That a batch script has ended with an exit code, in words; a shell gives 128 and the number of a signal."""
    of = f", as of a command ended by {_named(code - 128)}" if code - 128 in _SIGNALS else ""
    return f"its script ended with exit code {code}{of}"


_SIGNALS = {int(one) for one in signal.Signals}


def _named(number: int) -> str:
    name = f" ({signal.Signals(number).name})" if number in _SIGNALS else ""
    return f"signal {number}{name}"


def is_reason(text: str) -> bool:
    """Whether this is a reason as Slurm names it, and no sentence."""
    return text in REASONS or RAISED_SIGNAL.match(text) is not None


def explain(reason: str) -> str:
    """A pending reason in a sentence's worth of words; one the table lacks comes back as Slurm names it, ""
    for none.
    """
    if reason in ("", "None"):
        return ""
    if found := RAISED_SIGNAL.match(reason):
        return by_signal(int(found[1]), core_dumped=found[2] is not None)
    return REASONS.get(reason, reason)


def pick(names: object) -> str:
    """The state of a record: one name up to v0.0.39, from v0.0.40 a list of the state and its flags.

    A flag such as COMPLETING says more about now than the state beside it, so a job is not called over while
    one of its names is not final.
    """
    if isinstance(names, str):
        return names
    known = [name for name in names if isinstance(name, str)] if isinstance(names, list) else []
    return next((name for name in known if not is_final(name)), known[0] if known else "PENDING")
