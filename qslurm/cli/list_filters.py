"""Which jobs a list is to have, and of which time."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING

import click

from qslurm.c1.origin import user_of
from qslurm.errors import InvalidInputError

if TYPE_CHECKING:
    from qslurm.slurm.job_info import JobInfo

name_option = click.option("--name", "-n", metavar="NAME", help="Only jobs of this name.")
account_option = click.option("--account", "-A", metavar="NAME", help="Only jobs of this account.")
me_option = click.option("--me", is_flag=True, help="Only jobs that you have submitted from C1.")
submitter_option = click.option(
    "--submitter",
    "-u",
    metavar="NAMES",
    help="Only jobs that these users have submitted from C1, with commas.",
)
start_option = click.option(
    "--starttime",
    "-S",
    metavar="TIME",
    default="today",
    help="From then on, as for sacct: 2026-11-22, now-7days.",
)
end_option = click.option("--endtime", "-E", metavar="TIME", default="now", help="Until then.")


def states_in(text: str | None, option: str = "--states") -> set[str]:
    """Slurm's states in an option's value, also by squeue's codes (PD), or "all"; a usage error for any other."""
    from qslurm.slurm.states import CODES, STATES

    if text is None:
        return set()
    if not text.strip():
        raise click.BadParameter("It is empty; leave it out for jobs in all states.", param_hint=option)
    names = {CODES.get(word, word) for word in (word.strip().upper() for word in text.split(","))}
    if "ALL" in names:
        return set(STATES)
    for name in sorted(names - set(STATES)):
        raise click.BadParameter(f"{name!r} is no state. There are {', '.join(STATES)}.", param_hint=option)
    return names


def chooser(
    name: str | None, account: str | None, me: bool, submitters: str | None = None
) -> Callable[[JobInfo], bool]:
    """Whether a job has this name, this account, and this user or one of these, as far as they are said."""
    mine = _this_user() if me else set()
    of = {user.strip() for user in submitters.split(",")} if submitters is not None else set()
    if "" in of:
        raise click.BadParameter("A user without a name has submitted nothing.", param_hint="--submitter")
    return lambda job: (
        (name is None or job.name == name)
        and (account is None or job.account == account)
        and (not me or submitter(job) in mine)
        and (not of or submitter(job) in of)
    )


def submitter(job: JobInfo) -> str:
    """Who has submitted a job on C1."""
    return user_of(job.marks.origin)


def span(starttime: str, endtime: str) -> tuple[int, int]:
    """Two moments in Unix seconds; InvalidInputError if the first is not before the second."""
    from qslurm.payload.begin import parse_past

    now = datetime.now()
    since, until = parse_past(starttime, now), parse_past(endtime, now)
    if until < since:
        raise InvalidInputError(f"{endtime} is before {starttime}.", hint="Give -S the earlier one.")
    return since, until + 1


def _this_user() -> set[str]:
    import os

    from qslurm.c1.origin import names_of_this_user

    return names_of_this_user(os.environ)
