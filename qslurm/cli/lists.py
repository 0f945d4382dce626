"""`qslurm queue`, `history`, `usage`, `info`: what squeue, sacct, sreport and sinfo are for Slurm."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from qslurm.cli.options import CenterFlags, center_options, json_option
from qslurm.cli.output import job_document, note, print_json, print_table
from qslurm.cli.times import clock_time, duration
from qslurm.errors import InvalidInputError

if TYPE_CHECKING:
    from qslurm.center.lists import Backend, Ended
    from qslurm.slurmrest import JobInfo

name_option = click.option("--name", "-n", metavar="NAME", help="Only jobs of this name.")
account_option = click.option("--account", "-A", metavar="NAME", help="Only jobs of this account.")
me_option = click.option("--me", is_flag=True, help="Only jobs that you have submitted from C1.")
start_option = click.option(
    "--starttime",
    "-S",
    metavar="TIME",
    default="today",
    help="From then on, as for sacct: 2026-11-22, now-7days.",
)
end_option = click.option("--endtime", "-E", metavar="TIME", default="now", help="Until then.")


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

    \b
    Examples:
      qslurm queue
      qslurm queue -p p_spin2 --all
      qslurm queue --me -t PENDING
    """
    from qslurm.center.lists import positions

    connection = center.open()
    wanted = _states(states)
    known = connection.slurm.jobs()
    chosen = _chooser(name, account, me)
    jobs = [
        job
        for job in known
        if job.user == connection.slurm.user
        and (partition is None or job.partition == partition)
        and (job.state in wanted if wanted else with_ended or key or not job.is_final)
        and (key is None or job.marks.key == key)
        and chosen(job)
    ]
    places = positions(known)
    if as_json:
        print_json({"jobs": [{**job_document(job), "position": places.get(job.shown_id)} for job in jobs]})
        return
    print_table(
        ("JOBID", "PARTITION", "NAME", "ACCOUNT", "USER", "STATE", "SUBMITTED", "PLACE", "START", "REASON"),
        [
            (
                *(job.shown_id, job.partition, job.name, job.account, _user(job), job.state),
                *(clock_time(job.submit_time), places.get(job.shown_id)),
                *(clock_time(job.start_time or job.expected_start_time), job.why),
            )
            for job in jobs
        ],
    )


@click.command()
@start_option
@end_option
@click.option("--states", "-s", metavar="STATES", help="Only jobs that ended so, such as FAILED,TIMEOUT.")
@name_option
@account_option
@me_option
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
    as_json: bool,
    center: CenterFlags,
) -> None:
    """List your center's jobs on C2 that have ended, as sacct would, with what they used of the quantum backend.

    \b
    Examples:
      qslurm history
      qslurm history -S now-7days -s FAILED,TIMEOUT
      qslurm history -S 2026-11-01 -E 2026-12-01 --json
    """
    from qslurm.center.lists import history as ended_jobs

    since, until = _span(starttime, endtime)
    wanted, chosen = _states(states), _chooser(name, account, me)
    ended = [
        one
        for one in ended_jobs(center.open(), since, until)
        if (not wanted or one.job.state in wanted) and chosen(one.job)
    ]
    if as_json:
        print_json({"jobs": [_ended_document(one) for one in ended]})
        return
    print_table(
        (
            *("JOBID", "NAME", "BACKEND", "ACCOUNT", "USER", "STATE"),
            *("EXIT", "ENDED", "ELAPSED", "SHOTS", "QPU"),
        ),
        [
            (
                *(one.job.shown_id, one.job.name, one.job.marks.backend, one.job.account, _user(one.job)),
                *(one.job.state, _exit(one.job), clock_time(one.job.end_time), _elapsed(one.job)),
                *(one.shots, None if one.qpu_seconds is None else f"{one.qpu_seconds:.3f} s"),
            )
            for one in ended
        ],
    )


@click.command()
@click.option(
    *("--starttime", "-S"), metavar="TIME", show_default="this month", help="From then on, as for sacct."
)
@end_option
@click.option(
    "--by",
    metavar="WHAT",
    default="user,account,backend",
    help="Add up by these: user, account, backend, with commas.",
)
@json_option
@center_options
def usage(starttime: str | None, endtime: str, by: str, as_json: bool, center: CenterFlags) -> None:
    """Say who of your center has used what of C2's quantum backends: jobs, shots and QPU-seconds.

    \b
    Examples:
      qslurm usage
      qslurm usage -S 2026-01-01 --by account
      qslurm usage --by user --json | jq '.usage[0]'
    """
    import msgspec

    from qslurm.center.lists import GROUPS
    from qslurm.center.lists import usage as added_up

    groups = by.split(",")
    if wrong := [word for word in groups if word not in GROUPS]:
        raise click.BadParameter(f"{wrong[0]!r} is none of {', '.join(GROUPS)}.", param_hint="--by")
    month = datetime.now().strftime("%Y-%m-01")
    since, until = _span(starttime or month, endtime)
    rows = added_up(center.open().results.usage(since, until), groups)
    if as_json:
        print_json({"since": since, "until": until, "usage": msgspec.to_builtins(rows)})
        return
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
            for row in rows
        ],
    )
    note(f"{clock_time(since)} to {clock_time(until)}")


@click.command()
@click.argument("names", nargs=-1, metavar="[BACKEND]...")
@json_option
@center_options
def info(names: tuple[str, ...], as_json: bool, center: CenterFlags) -> None:
    """Show C2's backends, as sinfo would: how they are, their qubits and shots, what waits, and when they are reserved.

    \b
    Examples:
      qslurm info
      qslurm info spin2 --json
    """
    import msgspec

    from qslurm.center.lists import backends

    found = backends(center.open())
    known = [one.name for one in found]
    if wrong := [name for name in names if name not in known]:
        raise InvalidInputError(f"C2 has no backend {wrong[0]!r}.", hint=f"There are {', '.join(known)}.")
    found = [one for one in found if not names or one.name in names]
    if as_json:
        print_json({"backends": msgspec.to_builtins(found)})
        return
    print_table(
        ("BACKEND", "STATE", "PARTITION", "QUBITS", "SHOTS", "RUNNING", "WAITING", "RESERVED", "REASON"),
        [
            (
                *(one.name, f"{one.state} {_since(one)}".strip(), f"{one.partition} {_opened(one)}"),
                *(one.qubits, f"{one.default_shots} to {one.max_shots}", one.running, one.waiting),
                *(_next_window(one), one.reason),
            )
            for one in found
        ],
    )


def _states(text: str | None) -> set[str]:
    """Slurm's states in an option's value; a usage error for one that Slurm does not have."""
    from qslurm.slurmrest.states import STATES

    if not text:
        return set()
    names = {word.strip().upper() for word in text.split(",")}
    for name in sorted(names - set(STATES)):
        raise click.BadParameter(
            f"{name!r} is no state. There are {', '.join(STATES)}.", param_hint="--states"
        )
    return names


def _chooser(name: str | None, account: str | None, me: bool) -> Callable[[JobInfo], bool]:
    mine = _this_user() if me else ""
    return lambda job: (
        (name is None or job.name == name)
        and (account is None or job.account == account)
        and (not me or _user(job) == mine)
    )


def _this_user() -> str:
    import os

    from qslurm.center.origin import of_process

    return of_process(os.environ).user


def _user(job: JobInfo) -> str:
    from qslurm.center.origin import user_of

    return user_of(job.marks.origin)


def _span(starttime: str, endtime: str) -> tuple[int, int]:
    """Two moments in Unix seconds; InvalidInputError if the first is not before the second."""
    from qslurm.payload.begin import parse_past

    now = datetime.now()
    since, until = parse_past(starttime, now), parse_past(endtime, now)
    if until < since:
        raise InvalidInputError(f"{endtime} is before {starttime}.", hint="Give -S the earlier one.")
    return since, until + 1


def _ended_document(one: Ended) -> dict[str, Any]:
    counted = {"executions": one.executions, "shots": one.shots, "qpu_seconds": one.qpu_seconds}
    return {**job_document(one.job), **counted}


def _exit(job: JobInfo) -> str:
    return f"{job.exit_code or 0}:{job.signal or 0}"


def _elapsed(job: JobInfo) -> str:
    return duration(job.end_time - job.start_time) if job.end_time and job.start_time else ""


def _since(backend: Backend) -> str:
    return f"since {clock_time(backend.since)}" if backend.since else ""


def _opened(backend: Backend) -> str:
    words = {"UP": "enabled", "DOWN": "held", "DRAIN": "closed", "INACTIVE": "closed"}
    return words.get(backend.partition_state, backend.partition_state)


def _next_window(backend: Backend) -> str:
    """The first window that is not over, in words."""
    for window in backend.reserved:
        if window["ends"] > time.time():
            whose = "for you" if window["yours"] else "for others"
            return f"{clock_time(window['begins'])} to {clock_time(window['ends'])} {whose}"
    return ""
