"""`qslurm history` and `qslurm usage`: what sacct and sreport are for Slurm."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from qslurm.cli.all_platforms import query_all
from qslurm.cli.list_filters import (
    account_option,
    end_option,
    job_filter,
    me_option,
    name_option,
    span,
    start_option,
    states_in,
    submitter_option,
)
from qslurm.cli.list_filters import submitter as submitted_by
from qslurm.cli.output import job_document, note, print_json, print_table, short_name
from qslurm.cli.shared_options import CenterFlags, center_options, json_option
from qslurm.cli.time_format import clock_time, duration

if TYPE_CHECKING:
    from qslurm.c1.config.settings import Config
    from qslurm.c1.queries.lists import EndedJobUsage
    from qslurm.slurm.job_info import JobInfo


@click.command()
@start_option
@end_option
@click.option(
    "--states",
    "-s",
    metavar="STATES",
    help="Only jobs that ended in these states, for example FAILED,TIMEOUT.",
)
@name_option
@account_option
@me_option
@submitter_option
@json_option
@center_options
def history(
    *,
    starttime: str,
    endtime: str,
    states: str | None,
    name: str | None,
    account: str | None,
    me: bool,
    submitter: str | None,
    as_json: bool,
    center: CenterFlags,
) -> None:
    """List your center's ended jobs on C2, as sacct does, with their use of the quantum backend.

    \b
    Examples:
      qslurm history
      qslurm history -S now-7days -s FAILED,TIMEOUT
      qslurm history -S 2026-11-01 -E 2026-12-01 --json
    """
    from qslurm.c1.queries.lists import history as ended_jobs

    since, until = span(starttime, endtime)
    wanted, chosen = states_in(states), job_filter(name, account, me, submitter)
    found = query_all(center, lambda connection: ended_jobs(connection, since, until, note))
    ended = [
        (config, one)
        for config, jobs in found.answers
        for one in jobs
        if (not wanted or one.job.state in wanted) and chosen(one.job)
    ]
    ended.sort(key=lambda row: row[1].job.end_time or 0)
    if as_json:
        print_json(found.document(jobs=[_ended_document(config, one) for config, one in ended]))
    else:
        print_table(
            (
                *("JOBID", *(("PLATFORM",) if found.several else ()), "NAME", "BACKEND", "ACCOUNT", "USER"),
                *("STATE", "EXIT", "ENDED", "ELAPSED", "SHOTS", "QPU"),
            ),
            [
                (
                    *(f"{config.prefix}{one.job.shown_id}", *((config.platform,) if found.several else ())),
                    *(
                        short_name(one.job.name),
                        one.job.marks.backend,
                        one.job.account,
                        submitted_by(one.job),
                    ),
                    *(one.job.state, _exit(one.job), clock_time(one.job.end_time), _elapsed(one.job)),
                    *(one.shots, None if one.qpu_seconds is None else f"{one.qpu_seconds:.3f} s"),
                )
                for config, one in ended
            ],
        )
    found.finish()


@click.command()
@click.option(
    *("--starttime", "-S"),
    metavar="TIME",
    show_default="this month",
    help="Start of the period, as for sacct.",
)
@end_option
@click.option(
    "--by",
    metavar="WHAT",
    show_default="user,account,backend",
    help="Comma-separated columns to group by: platform, user, account, backend.",
)
@json_option
@center_options
def usage(starttime: str | None, endtime: str, by: str | None, as_json: bool, center: CenterFlags) -> None:
    """Show your center's use of C2's quantum backends by user: jobs, shots and QPU-seconds.

    With several platforms configured, each is listed; `--by user` sums over all.

    \b
    Examples:
      qslurm usage
      qslurm usage -S 2026-01-01 --by account
      qslurm usage --by user --json | jq '.usage[0]'
    """
    import msgspec

    from qslurm.c1.queries.lists import GROUPS
    from qslurm.c1.queries.lists import usage as added_up

    groups = by.split(",") if by is not None else []
    if wrong := [word for word in groups if word not in GROUPS]:
        raise click.BadParameter(
            f"Unknown column {wrong[0]!r}. Available: {', '.join(GROUPS)}.", param_hint="--by"
        )
    month = datetime.now().strftime("%Y-%m-01")
    since, until = span(month if starttime is None else starttime, endtime)
    found = query_all(center, lambda connection: connection.job_manager.usage(since, until))
    used = [{**row, "platform": config.platform} for config, rows in found.answers for row in rows]
    groups = groups or [name for name in GROUPS if found.several or name != "platform"]
    totals = added_up(used, groups)
    if as_json:
        print_json(found.document(since=since, until=until, usage=msgspec.to_builtins(totals)))
    else:
        print_table(
            (*(name.upper() for name in groups), "JOBS", "EXECUTIONS", "SHOTS", "QPU"),
            [
                (
                    *(getattr(row, name) for name in groups),
                    row.jobs,
                    row.executions,
                    row.shots,
                    f"{row.qpu_seconds:.3f} s",
                )
                for row in totals
            ],
        )
        note(f"{clock_time(since)} to {clock_time(until)}")
    found.finish()


def _ended_document(config: Config, one: EndedJobUsage) -> dict[str, Any]:
    counted = {"executions": one.executions, "shots": one.shots, "qpu_seconds": one.qpu_seconds}
    return {**job_document(one.job, config.prefix), "platform": config.platform, **counted}


def _exit(job: JobInfo) -> str:
    known = job.exit_code is not None or job.signal is not None
    return f"{job.exit_code or 0}:{job.signal or 0}" if known else ""


def _elapsed(job: JobInfo) -> str:
    return duration(job.end_time - job.start_time) if job.end_time and job.start_time else ""
