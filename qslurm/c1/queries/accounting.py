"""Whether C2's accounting can be asked: without it nobody knows of jobs that slurmctld has forgotten."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qslurm.errors import AccountingAwayError, UnknownJobError

if TYPE_CHECKING:
    from qslurm.c1.connection.interface import Slurm

AWAY = "C2's accounting (slurmdbd, or its database) is away"
MEANWHILE = (
    "Tell C2's operators; jobs are taken, run and are waited for meanwhile, and older ones are not known."
)


def accounting_answers(slurm: Slurm) -> bool:
    """Whether slurmdbd answers, by what it knows of a job; a C2 that serves no accounting at all lacks nothing.

    TokenError if C2 refuses the token, UnreachableError where it is something else that does not answer.
    """
    try:
        slurm.accounted_tasks(1)
    except UnknownJobError:
        return True
    except AccountingAwayError:
        return False
    return True
