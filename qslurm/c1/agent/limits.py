"""What a center allows its users: how many jobs, which backends, which accounts."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from qslurm.errors import InvalidInputError, RefusedError

if TYPE_CHECKING:
    from qslurm.c1.config.center_config import AgentSettings, UserLimits


def limits_of(settings: AgentSettings, user: str) -> UserLimits:
    """What holds for a user: what is said for them, else what is said for all."""
    from qslurm.c1.config.center_config import UserLimits

    own = settings.users.get(user, UserLimits())
    return UserLimits(
        max_open_jobs=settings.max_open_jobs if own.max_open_jobs is None else own.max_open_jobs,
        backends=settings.backends if own.backends is None else own.backends,
        accounts=settings.accounts if own.accounts is None else own.accounts,
    )


def jobs_in(array: object) -> int:
    """How many jobs an array is, or a job by itself (None); what can't be read is as many as there can be."""
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
    """The payload's job, with the account it gets if it names none; RefusedError if it may not be submitted.

    `open_jobs` counts those that the user has, tasks of arrays one by one; None for an admin, who may have any number.
    """
    partition = str(job.get("partition", ""))
    if limits.backends and partition.removeprefix("p_") not in limits.backends:
        raise RefusedError(
            f"You may not use {partition} from this center.",
            hint=f"Your backends are {', '.join(limits.backends)}.",
        )
    if limits.max_open_jobs and open_jobs is not None:
        has, more = open_jobs(), jobs_in(job.get("array"))
        if has + more > limits.max_open_jobs:
            these = f", and these are {more}" if more > 1 else ""
            raise RefusedError(
                f"You have {has} open jobs on C2{these}; this center allows you {limits.max_open_jobs}.",
                hint="Wait for some to end."
                if more == 1
                else "Wait for some to end, or submit fewer at once.",
            )
    if not limits.accounts:
        return job
    account = str(job.get("account") or limits.accounts[0])
    if account not in limits.accounts:
        raise RefusedError(
            f"You may not use the account {account} from this center.",
            hint=f"Your accounts are {', '.join(limits.accounts)}.",
        )
    return {**job, "account": account}
