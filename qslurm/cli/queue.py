"""`qslurm queue`: what squeue is for Slurm."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from qslurm.cli.choosing import account_option, chooser, me_option, name_option, states_in, submitter
from qslurm.cli.everywhere import ask_all
from qslurm.cli.options import CenterFlags, center_options, json_option
from qslurm.cli.output import job_document, print_json, print_table, short_name
from qslurm.cli.times import clock_time

if TYPE_CHECKING:
    from qslurm.center.connection import Center
    from qslurm.slurmrest import JobInfo


@click.command()
@click.option("--partition", "-p", metavar="NAME", help="Only this partition's jobs.")
@click.option(
    "--all", "-a", "with_ended", is_flag=True, help="Jobs that have ended, too, while Slurm remembers them."
)
@click.option("--states", "-t", metavar="STATES", help="Only jobs in these states, such as PENDING,RUNNING.")
@name_option
@account_option
@me_option
@click.option("--key", metavar="KEY", help="Only the job with this submission key.")
@json_option
@center_options
def queue(
    *,
    partition: str | None,
    with_ended: bool,
    states: str | None,
    name: str | None,
    account: str | None,
    me: bool,
    key: str | None,
    as_json: bool,
    center: CenterFlags,
) -> None:
    """List your center's jobs on C2, as squeue would: with the place in line
    (among the jobs that C2 shows to you), the reason, and when C2 thinks it starts.

    Where several platforms are configured, those of all; a platform that does not answer is said on stderr.

    \b
    Examples:
      qslurm queue
      qslurm queue -p p_spin2 --all
      qslurm queue --me -t PENDING
      qslurm queue --platform tuna
    """
    wanted, chosen = states_in(states), chooser(name, account, me)

    def listed(connection: Center) -> list[tuple[JobInfo, int | None]]:
        """The platform's jobs that are asked for, each with its place in line."""
        from qslurm.center.line import line

        return [
            (job, place)
            for job, place in line(connection)
            if (partition is None or job.partition == partition)
            and (job.state in wanted if wanted else with_ended or key or not job.is_final)
            and (key is None or job.marks.key == key)
            and chosen(job)
        ]

    found = ask_all(center, listed)
    rows = [(config, job, place) for config, jobs in found.answers for job, place in jobs]
    if as_json:
        documents = [
            {**job_document(job, config.prefix), "platform": config.platform, "position": place}
            for config, job, place in rows
        ]
        print_json(found.document(jobs=documents))
    else:
        header = ("PARTITION", "NAME", "ACCOUNT", "USER", "STATE", "SUBMITTED", "PLACE", "START", "REASON")
        print_table(
            ("JOBID", *(("PLATFORM",) if found.several else ()), *header),
            [
                (
                    *(f"{config.prefix}{job.shown_id}", *((config.platform,) if found.several else ())),
                    *(job.partition, short_name(job.name), job.account, submitter(job), job.state),
                    *(clock_time(job.submit_time), place),
                    *(clock_time(job.start_time or job.expected_start_time), job.why),
                )
                for config, job, place in rows
            ],
        )
    found.finish()
