"""What a center allows its users: how many jobs, which backends, which accounts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qslurm.errors import RefusedError

if TYPE_CHECKING:
    from qslurm.center.config import AgentSettings, UserLimits


def limits_of(settings: AgentSettings, user: str) -> UserLimits:
    """What holds for a user: what is said for them, else what is said for all."""
    from qslurm.center.config import UserLimits

    own = settings.users.get(user, UserLimits())
    return UserLimits(
        max_open_jobs=settings.max_open_jobs if own.max_open_jobs is None else own.max_open_jobs,
        backends=settings.backends if own.backends is None else own.backends,
        accounts=settings.accounts if own.accounts is None else own.accounts,
    )


def within_limits(limits: UserLimits, job: dict[str, Any], open_jobs: int) -> dict[str, Any]:
    """The payload's job, with the account it gets if it names none; RefusedError if it may not be submitted.

    `open_jobs` is how many the user has; an admin has none.
    """
    partition = str(job.get("partition", ""))
    if limits.backends and partition.removeprefix("p_") not in limits.backends:
        raise RefusedError(
            f"You may not use {partition} from this center.",
            hint=f"Your backends are {', '.join(limits.backends)}.",
        )
    if limits.max_open_jobs and open_jobs >= limits.max_open_jobs:
        raise RefusedError(
            f"You have {open_jobs} open jobs on C2; this center allows you {limits.max_open_jobs}.",
            hint="Wait for some to end.",
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
