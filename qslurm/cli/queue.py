"""`qslurm queue`: list jobs on C2, as squeue does."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from qslurm.cli import streams
from qslurm.cli.all_platforms import query_all
from qslurm.cli.list_filters import (
    account_option,
    job_filter,
    me_option,
    name_option,
    states_in,
    submitter_option,
)
from qslurm.cli.list_filters import submitter as submitted_by
from qslurm.cli.output import job_document, note, print_json, print_table, short_name
from qslurm.cli.shared_options import CenterFlags, center_options, json_option
from qslurm.cli.time_format import clock_time
from qslurm.errors import QslurmError

if TYPE_CHECKING:
    from qslurm.c1.connection.center_connection import CenterConnection
    from qslurm.c1.followups.followup_list import FollowUpJob
    from qslurm.slurm.job_info import JobInfo


@contextmanager
def _without_garbage_collection() -> Iterator[None]:
    """Turn the garbage collector off: with ten thousand jobs it takes a tenth of the command's time."""
    import gc

    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.freeze()  # else a collection over all imported modules would follow
            gc.enable()


@click.command()
@click.option("--partition", "-p", metavar="NAME", help="Only jobs in these partitions (comma-separated).")
@click.option("--all", "-a", "with_ended", is_flag=True, help="Include ended jobs that Slurm still lists.")
@click.option(
    "--states", "-t", metavar="STATES", help="Only jobs in these states, for example PENDING,RUNNING."
)
@name_option
@account_option
@me_option
@submitter_option
@click.option("--key", metavar="KEY", help="Only the job with this submission key.")
@json_option
@center_options
@_without_garbage_collection()
def queue(
    *,
    partition: str | None,
    with_ended: bool,
    states: str | None,
    name: str | None,
    account: str | None,
    me: bool,
    submitter: str | None,
    key: str | None,
    as_json: bool,
    center: CenterFlags,
) -> None:
    """List your center's jobs on C2, as squeue does, with the position in the queue
    (among the jobs of all centers), the reason, and the expected start.

    With several platforms configured, those of all; a platform that does not answer is reported on stderr.

    A second table lists follow-up jobs: those that `qslurm submit --then` holds on this cluster.

    \b
    Examples:
      qslurm queue
      qslurm queue -p p_spin2 --all
      qslurm queue --me -t PENDING
      qslurm queue --platform tuna
    """
    wanted, chosen = states_in(states), job_filter(name, account, me, submitter)

    def listed(connection: CenterConnection) -> tuple[list[tuple[JobInfo, int | None]], list[FollowUpJob]]:
        """The platform's selected jobs with their queue positions, and their follow-up jobs on C1."""
        from qslurm.c1.followups.followup_list import start_query
        from qslurm.c1.queries.lists import queue_with_positions

        followers = start_query(connection)
        jobs = [
            (job, place)
            for job, place in queue_with_positions(connection)
            if (partition is None or job.partition in partition.split(","))
            and (job.state in wanted if wanted else with_ended or key or not job.is_final)
            and (key is None or job.marks.key == key)
            and chosen(job)
        ]
        try:
            return jobs, followers([job for job, _ in jobs])
        except QslurmError as error:
            note(f"qslurm: Cannot list follow-up jobs: {error}")
            return jobs, []

    found = query_all(center, listed)
    rows = [(config, job, place) for config, (jobs, _) in found.answers for job, place in jobs]
    following = [(config, one) for config, (_, held) in found.answers for one in held]
    if as_json:
        documents = [
            {**job_document(job, config.prefix), "platform": config.platform, "position": place}
            for config, job, place in rows
        ]
        followed = [
            {**asdict(one), "follows": f"{config.prefix}{one.follows}", "platform": config.platform}
            for config, one in following
        ]
        print_json(found.document(jobs=documents, follow_ups=followed))
    else:
        header = ("PARTITION", "NAME", "ACCOUNT", "USER", "STATE", "SUBMITTED", "PLACE", "START", "REASON")
        print_table(
            ("JOBID", *(("PLATFORM",) if found.several else ()), *header),
            [
                [
                    f"{config.prefix}{job.shown_id}",
                    *((config.platform,) if found.several else ()),
                    job.partition,
                    short_name(job.name),
                    job.account,
                    submitted_by(job),
                    job.state,
                    clock_time(job.submit_time),
                    place,
                    clock_time(job.start_time or job.expected_start_time),
                    job.why,
                ]
                for config, job, place in rows
            ],
        )
        if following:
            streams.write()
            print_table(
                ("FOLLOW-UP", "USER", "FOLLOWS", "IF"),
                [
                    (one.job_id, one.user, f"{config.prefix}{one.follows}", one.then_if)
                    for config, one in following
                ],
            )
    found.finish()
