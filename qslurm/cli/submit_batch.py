"""What `qslurm submit` does with the jobs that it was given, one or many: send, tell, wait."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click
import msgspec

from qslurm.c1.queries.job_ids import JobRef
from qslurm.c1.submission.backend_limits import LimitsLookup, limits_of, no_limits
from qslurm.c1.submission.packing import Package
from qslurm.c1.submission.sending import Batch, is_too_large
from qslurm.cli import streams
from qslurm.cli.output import ProgressLine, error_document, note, print_json
from qslurm.cli.submission_report import say_submitted, say_warnings, shown_place
from qslurm.cli.submit_preparation import each
from qslurm.errors import QslurmError, RefusedError

if TYPE_CHECKING:
    from collections.abc import Callable

    from qslurm.c1.config.settings import Config
    from qslurm.c1.connection.center_connection import CenterConnection
    from qslurm.c1.submission.sending import SendOutcome
    from qslurm.cli.c1_job_binding import BoundSubmission, C1JobBinding
    from qslurm.cli.shared_options import CenterFlags
    from qslurm.payload.spec import JobSpec
    from qslurm.slurm.rest import Submitted

    Documents = dict[tuple[int, int], dict[str, Any]]
    """By the place of a file in the user's list, and how many of its tasks come before."""


class SubmitOptions(msgspec.Struct, frozen=True):
    """What `qslurm submit` was asked beside what each job is to be."""

    separate: bool = False
    dry_run: bool = False
    parsable: bool = False
    as_json: bool = False
    wait: bool = False
    keep: bool = False
    timeout_s: float | None = None
    then: Path | None = None
    then_if: Literal["ok", "any", "failed"] = "ok"


class SentPackage(msgspec.Struct, frozen=True):
    """A package, what C2 has said to it, and how it is waited for."""

    package: Package
    outcome: SendOutcome
    submission: BoundSubmission | None


def prepared(
    config: Config, jobs: Sequence[JobSpec], limits: LimitsLookup = no_limits, *, separate: bool = False
) -> Batch:
    """Jobs that can be sent; if some can't be, all of these are named, and the last one's error is raised."""
    return Batch(config, jobs, os.environ, limits=limits, remark=note, separate=separate, each=each)


def submit_jobs(jobs: Sequence[JobSpec], center: CenterFlags, platform: str, how: SubmitOptions) -> None:
    """Submit jobs whose files were read; exits with the code of the worst error after what could be sent has been."""
    files = [str(job.file) for job in jobs]
    if how.dry_run:
        batch = prepared(center.platforms.config(platform), jobs, separate=how.separate)
        packages = batch.packages
        print_json({"jobs": [_dry(files, one) for one in packages]} if len(jobs) > 1 else packages[0].payload)
        return
    connection = center.open(platform)
    batch = prepared(connection.config, jobs, limits_of(connection), separate=how.separate)
    if how.then is not None:
        _submit_followed(connection, batch, how.then, how)
        return
    from qslurm.cli.c1_job_binding import C1JobBinding

    def connect() -> CenterConnection:
        return waiting.tie(center.open(platform))

    with C1JobBinding(connection, connect, keep=how.keep or not how.wait) as waiting:
        sent = _sent(batch, connection, connect, waiting, files)
        if len(sent) == len(jobs) == 1:
            _tell_one(connection, sent[0], how)
        else:
            _tell_many(connection, files, sent, how)


def _submit_followed(connection: CenterConnection, batch: Batch, script: Path, how: SubmitOptions) -> None:
    """Submit one job, and a script on C1 that is held until it has ended."""
    from qslurm.c1.followups.followup_submission import followed

    payload = batch.packages[0].payload
    with followed(connection, payload, script, how.then_if, note) as follow_up, _interrupted(batch):
        submitted = batch.send_whole(connection)
    say_submitted(
        connection, payload, submitted, parsable=how.parsable, as_json=how.as_json, follow_up=follow_up
    )


def _sent(
    batch: Batch,
    connection: CenterConnection,
    connect: Callable[[], CenterConnection],
    waiting: C1JobBinding,
    files: Sequence[str],
) -> list[SentPackage]:
    """Send all, and show how far it is."""
    bound: dict[tuple[tuple[int, ...], int], BoundSubmission] = {}

    def begins(package: Package) -> None:
        bound[package.members, package.skip] = waiting.add(package.payload)

    def done(package: Package, outcome: Submitted | QslurmError) -> None:
        if isinstance(outcome, QslurmError):
            bound[package.members, package.skip].over = isinstance(outcome, RefusedError)
        else:
            bound[package.members, package.skip].job_id = outcome.job_id
        if not is_too_large(outcome):
            update(len(package.members))

    with _progress(len(files)) as update, _interrupted(batch):
        sent = batch.send(connection, connect, on_begin=begins, on_done=done)
    if len(sent) > len(files) == 1:
        note("C2 does not accept an array this large, so the sweep was submitted as several arrays.")
    return [
        SentPackage(package, outcome, bound.get((package.members, package.skip))) for package, outcome in sent
    ]


@contextmanager
def _interrupted(batch: Batch) -> Iterator[None]:
    """On Ctrl-C, say how to find out what C2 has by then."""
    try:
        yield
    except KeyboardInterrupt:
        if len(batch.packages) > 1:
            note("\nSome files were submitted; `qslurm queue --me` lists their jobs.")
        else:
            from qslurm.c1.submission.sending import how_to_look

            look = how_to_look(batch.packages[0].payload)
            note(f"\nInterrupted while submitting: C2 may have the job. {look}")
        raise


def _tell_one(connection: CenterConnection, sent: SentPackage, how: SubmitOptions) -> None:
    """Say what came of the only job, and wait for it if that was asked."""
    payload, outcome = sent.package.payload, sent.outcome
    if isinstance(outcome, QslurmError):
        raise outcome
    assert outcome is not None
    if how.wait and how.as_json:  # one document, at the end
        say_warnings(payload, outcome.warnings)
    else:
        say_submitted(connection, payload, outcome, parsable=how.parsable, as_json=how.as_json)
    if how.wait:
        from qslurm.cli.job_commands import wait_and_print

        job = JobRef(outcome.job_id, platform=connection.config.prefix.rstrip(":"))
        wait_and_print(connection, job, how.timeout_s, as_json=how.as_json, quiet=how.parsable)
        if sent.submission is not None:
            sent.submission.over = True


def _tell_many(
    connection: CenterConnection, files: Sequence[str], sent: Sequence[SentPackage], how: SubmitOptions
) -> None:
    """Say what came of each file, and wait for the jobs if that was asked; exits with the worst error's code."""
    documents, failures = _told(connection.config, files, sent)
    if not (how.as_json and how.wait):  # then it is one document, at the end
        _print_all(connection.config, list(documents.values()), how)
    if failures:
        submitted = sum(document["job_id"] is not None for document in documents.values())
        what = "files" if len(documents) == len(files) else "jobs"
        note(f"{submitted} of {len(documents)} {what} were submitted.")
    if how.wait:
        failures += _wait(connection, sent, documents, how)
    if failures:
        from qslurm.cli.wait_many import worst_of

        raise click.exceptions.Exit(worst_of(failures).exit_code)


@contextmanager
def _progress(length: int) -> Iterator[Callable[[int], None]]:
    """How far many are, on a terminal only: a pipe gets results, and no progress."""
    done = 0
    with ProgressLine() as line:

        def update(more: int) -> None:
            nonlocal done
            done += more
            if length > 1:
                line.show(f"submitted {done} of {max(done, length)}")

        yield update


def _dry(files: Sequence[str], package: Package) -> dict[str, Any]:
    named = [files[member] for member in package.members]
    return ({"files": named} if package.is_array else {"file": named[0]}) | {"payload": package.payload}


def _told(
    config: Config, files: Sequence[str], sent: Sequence[SentPackage]
) -> tuple[Documents, list[QslurmError]]:
    """A document for each file, in their order, and the errors with which packages were not sent, which are said."""
    documents: Documents = {}
    failures: list[QslurmError] = []
    for package, outcome in ((one.package, one.outcome) for one in sent):
        said: dict[str, Any] = {"job_id": None, "error": None}
        if isinstance(outcome, QslurmError):
            failures.append(outcome)
            note(f"qslurm: {_named(files, package)}: {outcome}")
            said["error"] = error_document(outcome)
        elif outcome is not None:
            say_warnings(package.payload, outcome.warnings)
            partition = package.payload["job"].get("partition")
            said = {"job_id": outcome.job_id, "platform": config.platform, "partition": partition}
            said["warnings"] = outcome.warnings
        for task, member in enumerate(package.members):
            document = documents[member, package.skip] = {"file": files[member], **said}
            if said["job_id"]:
                ref = JobRef(said["job_id"], task if package.is_array else None)
                document |= {"id": f"{config.prefix}{ref}"} | ({"task": task} if package.is_array else {})
    return dict(sorted(documents.items())), failures


def _print_all(config: Config, documents: Sequence[dict[str, Any]], how: SubmitOptions) -> None:
    told = print_json({"jobs": documents}) if how.as_json else True
    for one in documents:
        if one["job_id"]:
            said = f"Submitted job {one['id']} to {one['partition']} on {shown_place(config)}: {one['file']}"
            told = told and (how.as_json or streams.write(one["id"] if how.parsable else said))
            if not told:  # whatever has become of stdout: the job is there, and this is its only name
                note(said)


def _wait(
    connection: CenterConnection, sent: Sequence[SentPackage], documents: Documents, how: SubmitOptions
) -> list[QslurmError]:
    """Wait for what was submitted, and print what came of it as far as that is asked; the errors of what went wrong."""
    from qslurm.cli.file_outcomes import ends_in, print_ends
    from qslurm.cli.wait_many import ends_of, say

    open_ones = [(one, one.submission) for one in sent if one.submission and one.submission.job_id]

    def over(place: int) -> None:
        open_ones[place][1].over = True

    platform = connection.config.prefix.rstrip(":")
    jobs = [(connection, JobRef(submission.job_id or 0, platform=platform)) for _, submission in open_ones]
    ends = ends_of(jobs, how.timeout_s, over)
    failures = [failure for _, failure in ends if failure is not None]
    say(failures)
    if not how.parsable or how.as_json:
        for (one, _), (_, ref), end in zip(open_ones, jobs, ends, strict=True):
            ends_in(documents, one.package, connection, ref, end)
        print_ends(list(documents.values()), as_json=how.as_json)
    return failures


def _named(files: Sequence[str], package: Package) -> str:
    more = f" and {len(package.members) - 1} more" if package.is_array else ""
    return files[package.members[0]] + more
