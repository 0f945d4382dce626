"""`qslurm backend reserve|release|reservations`: reservations of backends for a center or a job."""

from __future__ import annotations

import time
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from qslurm.cli import streams
from qslurm.cli.output import note, print_json, print_table
from qslurm.cli.shared_options import JobId, c2_config_option, json_option, reason_option
from qslurm.cli.time_format import clock_time

if TYPE_CHECKING:
    from qslurm.c1.queries.job_ids import JobRef


class Moment(click.ParamType[float]):
    """A time of this host's clock, as Unix seconds: `now`, 14:30 (the next one), 2026-11-22 14:30."""

    name = "time"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Parse the text; a usage error if it is invalid."""
        text = str(value).strip()
        if text == "now":
            return time.time()
        try:
            if len(text) <= len("14:30:00") and ":" in text:
                from qslurm.payload.times import next_at

                clock = datetime.strptime(text, "%H:%M" if text.count(":") == 1 else "%H:%M:%S")
                return next_at(clock.time(), datetime.now()).timestamp()
            return datetime.fromisoformat(text).timestamp()
        except (ValueError, OverflowError):
            self.fail(f"Invalid time {text!r}. Use now, 14:30 or 2026-11-22 14:30.", param, ctx)


class Span(click.ParamType[int]):
    """A duration in seconds, written 90m, 2h, 1d."""

    name = "duration"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Parse the text; a usage error if it is invalid."""
        from qslurm.errors import InvalidInputError
        from qslurm.tokens.lifetime import parse_lifetime

        try:
            return parse_lifetime(str(value))
        except InvalidInputError:
            self.fail(f"Invalid duration {value!r}. Use for example 90m, 2h or 1d.", param, ctx)


@click.command()
@click.argument("name", metavar="BACKEND")
@click.option(
    "--center", metavar="CENTER", default="", show_default=False, help="Reserve for this center's jobs."
)
@click.option("--job", type=JobId(), metavar="JOBID", help="Reserve for this job on C2.")
@click.option(
    "--start", type=Moment(), default="now", metavar="TIME", help="Start: now, 14:30, or 2026-11-22 14:30."
)
@click.option(
    "--duration", type=Span(), required=True, metavar="TIME", help="Duration, for example 90m, 2h, 1d."
)
@reason_option
@c2_config_option
@json_option
def reserve(
    name: str,
    *,
    center: str,
    job: JobRef | None,
    start: float,
    duration: int,
    reason: str,
    config_file: Path | None,
    as_json: bool,
) -> None:
    """Reserve BACKEND for a center or a job: nothing else starts there during the reservation.

    A circuit that is running at the start is finished first. Other jobs stay pending, with the end time as their
    reason. A job's reservation ends with the job.

    \b
    Example:  qslurm backend reserve spin2 --center snellius --start 14:00 --duration 2h
    """
    from qslurm.cli.dispatcher_calls import ask
    from qslurm.protocol.messages import Reserve, Reserved

    if bool(center) == (job is not None):
        raise click.UsageError("Give either --center or --job.")
    if job is not None and job.task is not None:
        raise click.BadParameter(f"{job} is an array task. Use the task's own job id.", param_hint="--job")
    job_id = job.job_id if job is not None else 0
    message = Reserve(
        backend=name, begins=start, ends=start + duration, center=center, job_id=job_id, reason=reason
    )
    answer = ask(message, config_file)
    assert isinstance(answer, Reserved)
    if as_json:
        print_json({"reservation": answer.reservation, "note": answer.note})
        return
    holder = f"center {center}" if center else f"job {job_id}"
    until = clock_time(start + duration)
    streams.write(
        f"reservation {answer.reservation}: {name} for {holder} from {clock_time(start)} to {until}"
    )
    if answer.note:
        note(f"qslurm: {answer.note}")


@click.command()
@click.argument("number", metavar="NUMBER", type=click.IntRange(min=1, max=2**53 - 1))
@c2_config_option
def release(number: int, config_file: Path | None) -> None:
    """Cancel reservation NUMBER, before it starts or while it is active.

    \b
    Example:  qslurm backend release 3
    """
    from qslurm.cli.dispatcher_calls import ask
    from qslurm.protocol.messages import Release

    ask(Release(reservation=number), config_file)
    streams.write(f"Released reservation {number}")


@click.command("reservations")
@c2_config_option
@json_option
def list_reservations(config_file: Path | None, as_json: bool) -> None:
    """List active and future reservations.

    \b
    Example:  qslurm backend reservations
    """
    import msgspec

    from qslurm.cli.dispatcher_calls import ask_status

    found = ask_status(config_file, jobs=True).reservations
    if as_json:
        print_json({"reservations": msgspec.to_builtins(found)})
        return
    print_table(
        ("NUMBER", "BACKEND", "FOR", "BEGINS", "ENDS", "REASON"),
        [(r.id, r.backend, r.holder, clock_time(r.begins), clock_time(r.ends), r.reason) for r in found],
    )
