"""Options that select the jobs of a list, and its period."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING

import click

from qslurm.c1.origin import user_of
from qslurm.errors import InvalidInputError

if TYPE_CHECKING:
    from qslurm.slurm.job_info import JobInfo

name_option = click.option("--name", "-n", metavar="NAME", help="Only jobs with this name.")
account_option = click.option("--account", "-A", metavar="NAME", help="Only jobs charged to this account.")
me_option = click.option("--me", is_flag=True, help="Only jobs that you submitted.")
submitter_option = click.option(
    "--submitter",
    "-u",
    metavar="NAMES",
    help="Only jobs submitted by these users of C1 (comma-separated).",
)
start_option = click.option(
    "--starttime",
    "-S",
    metavar="TIME",
    default="today",
    help="Start of the period, as for sacct: 2026-11-22, now-7days.",
)
end_option = click.option("--endtime", "-E", metavar="TIME", default="now", help="End of the period.")


def states_in(text: str | None, option: str = "--states") -> set[str]:
    """Slurm's states in an option's value, also by squeue's codes (PD), or "all"; a usage error for any other."""
    from qslurm.slurm.states import CODES, STATES

    if text is None:
        return set()
    if not text.strip():
        raise click.BadParameter("No state given. Omit the option for all states.", param_hint=option)
    names = {CODES.get(word, word) for word in (word.strip().upper() for word in text.split(","))}
    if "ALL" in names:
        return set(STATES)
    for name in sorted(names - set(STATES)):
        raise click.BadParameter(
            f"Unknown state {name!r}. Available: {', '.join(STATES)}.", param_hint=option
        )
    return names


def job_filter(
    name: str | None, account: str | None, me: bool, submitters: str | None = None
) -> Callable[[JobInfo], bool]:
    """A filter for jobs by name, account and submitter; what is not given matches all."""
    mine = _this_user() if me else set()
    of = {user.strip() for user in submitters.split(",")} if submitters is not None else set()
    if "" in of:
        raise click.BadParameter("A user name is empty.", param_hint="--submitter")
    return lambda job: (
        (name is None or job.name == name)
        and (account is None or job.account == account)
        and (not me or submitter(job) in mine)
        and (not of or submitter(job) in of)
    )


def submitter(job: JobInfo) -> str:
    """The user of C1 who submitted a job."""
    return user_of(job.marks.origin)


def span(starttime: str, endtime: str) -> tuple[int, int]:
    """Start and end in Unix seconds; InvalidInputError if the end is before the start."""
    from qslurm.payload.times import parse_past

    now = datetime.now()
    since, until = parse_past(starttime, now), parse_past(endtime, now)
    if until < since:
        raise InvalidInputError(
            f"The end {endtime} is before the start {starttime}.", hint="Use -S for the earlier time."
        )
    return since, until + 1


def _this_user() -> set[str]:
    import os

    from qslurm.c1.origin import names_of_this_user

    return names_of_this_user(os.environ)
