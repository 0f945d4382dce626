"""Checks C2's accounting, which has the jobs that slurmctld has purged."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qslurm.errors import AccountingAwayError, UnknownJobError

if TYPE_CHECKING:
    from qslurm.c1.connection.client_protocols import SlurmClient

ACCOUNTING_DOWN = "C2's accounting (slurmdbd or its database) is down"
ACCOUNTING_HINT = (
    "Tell C2's operators. Meanwhile jobs can be submitted, run and waited for, but older jobs are not found."
)


def is_accounting_up(slurm: SlurmClient) -> bool:
    """Whether slurmdbd answers; also True if C2 has no accounting at all.

    TokenError if C2 refuses the token, UnreachableError if anything else does not answer.
    """
    try:
        slurm.accounted_tasks(1)
    except UnknownJobError:
        return True
    except AccountingAwayError:
        return False
    return True
