"""A center's limits on its users: number of jobs, backends, accounts."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from qslurm.errors import InvalidInputError, RefusedError

if TYPE_CHECKING:
    from qslurm.c1.config.settings import AgentSettings, UserLimits


def limits_of(settings: AgentSettings, user: str) -> UserLimits:
    """A user's limits: their own, else the general ones."""
    from qslurm.c1.config.settings import UserLimits

    own = settings.users.get(user, UserLimits())
    return UserLimits(
        max_open_jobs=settings.max_open_jobs if own.max_open_jobs is None else own.max_open_jobs,
        backends=settings.backends if own.backends is None else own.backends,
        accounts=settings.accounts if own.accounts is None else own.accounts,
    )


def jobs_in(array: object) -> int:
    """The number of jobs in an array (None: a single job); an unreadable array counts as the maximum."""
    from qslurm.payload.array import MOST_TASKS, parse_array

    if not array:
        return 1
    try:
        return len(parse_array(str(array)).indices)
    except InvalidInputError:
        return MOST_TASKS


def within_limits(
    limits: UserLimits, job: dict[str, Any], open_jobs: Callable[[], int] | None
) -> dict[str, Any]:
    """The payload's job with its default account; RefusedError if a limit forbids it.

    `open_jobs` counts those that the user has, tasks of arrays one by one; None for an admin, who may have any number.
    """
    partition = str(job.get("partition", ""))
    if limits.backends and partition.removeprefix("p_") not in limits.backends:
        raise RefusedError(
            f"Partition {partition} is not allowed for you at this center.",
            hint=f"Allowed backends: {', '.join(limits.backends)}.",
        )
    if limits.max_open_jobs and open_jobs is not None:
        has, more = open_jobs(), jobs_in(job.get("array"))
        if has + more > limits.max_open_jobs:
            these = f", and this submission adds {more}" if more > 1 else ""
            raise RefusedError(
                f"You have {has} open jobs on C2{these}; the center's limit is {limits.max_open_jobs}.",
                hint="Wait for some to end."
                if more == 1
                else "Wait for some to end, or submit fewer at once.",
            )
    if not limits.accounts:
        return job
    account = str(job.get("account") or limits.accounts[0])
    if account not in limits.accounts:
        raise RefusedError(
            f"Account {account} is not allowed for you at this center.",
            hint=f"Allowed accounts: {', '.join(limits.accounts)}.",
        )
    return {**job, "account": account}
