"""Submits the jobs of `qslurm submit`, reports them, and waits for them."""

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
from qslurm.cli.submission_report import platform_label, print_submitted, print_warnings
from qslurm.cli.submit_preparation import convert_all_or_report
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
    """By the position of a file in the user's list, and the number of its tasks in earlier packages."""


class SubmitOptions(msgspec.Struct, frozen=True):
    """Options of `qslurm submit` apart from those of the jobs."""

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
    """A package, its outcome, and its binding to this C1 job."""

    package: Package
    outcome: SendOutcome
    submission: BoundSubmission | None


def prepared(
    config: Config, jobs: Sequence[JobSpec], limits: LimitsLookup = no_limits, *, separate: bool = False
) -> Batch:
    """Check and pack jobs; reports all invalid ones, and raises the last one's error."""
    return Batch(
        config, jobs, os.environ, limits=limits, remark=note, separate=separate, each=convert_all_or_report
    )


def submit_jobs(jobs: Sequence[JobSpec], center: CenterFlags, platform: str, options: SubmitOptions) -> None:
    """Submit jobs whose files were read. If some fail, exits with the worst error's code after sending the others."""
    files = [str(job.file) for job in jobs]
    if options.dry_run:
        batch = prepared(center.platforms.config(platform), jobs, separate=options.separate)
        packages = batch.packages
        print_json(
            {"jobs": [_dry_run_document(files, one) for one in packages]}
            if len(jobs) > 1
            else packages[0].payload
        )
        return
    connection = center.open(platform)
    batch = prepared(connection.config, jobs, limits_of(connection), separate=options.separate)
    if options.then is not None:
        _submit_followed(connection, batch, options.then, options)
        return
    from qslurm.cli.c1_job_binding import C1JobBinding

    def connect() -> CenterConnection:
        return binding.bind(center.open(platform))

    with C1JobBinding(connection, connect, keep=options.keep or not options.wait) as binding:
        sent = _sent(batch, connection, connect, binding, files)
        if len(sent) == len(jobs) == 1:
            _report_one(connection, sent[0], options)
        else:
            _report_many(connection, files, sent, options)


def _submit_followed(
    connection: CenterConnection, batch: Batch, script: Path, options: SubmitOptions
) -> None:
    """Submit one job, and a follow-up script on C1 that is held until the job has ended."""
    from qslurm.c1.followups.followup_submission import followed

    payload = batch.packages[0].payload
    with followed(connection, payload, script, options.then_if, note) as follow_up, _interrupted(batch):
        submitted = batch.send_whole(connection)
    print_submitted(
        connection,
        payload,
        submitted,
        parsable=options.parsable,
        as_json=options.as_json,
        follow_up=follow_up,
    )


def _sent(
    batch: Batch,
    connection: CenterConnection,
    connect: Callable[[], CenterConnection],
    binding: C1JobBinding,
    files: Sequence[str],
) -> list[SentPackage]:
    """Send all packages, and show the progress."""
    bound: dict[tuple[tuple[int, ...], int], BoundSubmission] = {}

    def on_begin(package: Package) -> None:
        bound[package.members, package.skip] = binding.add(package.payload)

    def on_done(package: Package, outcome: Submitted | QslurmError) -> None:
        if isinstance(outcome, QslurmError):
            bound[package.members, package.skip].over = isinstance(outcome, RefusedError)
        else:
            bound[package.members, package.skip].job_id = outcome.job_id
        if not is_too_large(outcome):
            update(len(package.members))

    with _progress(len(files)) as update, _interrupted(batch):
        sent = batch.send(connection, connect, on_begin=on_begin, on_done=on_done)
    if len(sent) > len(files) == 1:
        note("C2 does not accept an array this large, so the sweep was submitted as several arrays.")
    return [
        SentPackage(package, outcome, bound.get((package.members, package.skip))) for package, outcome in sent
    ]


@contextmanager
def _interrupted(batch: Batch) -> Iterator[None]:
    """On Ctrl-C, explain how to find out which jobs C2 has."""
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


def _report_one(connection: CenterConnection, sent: SentPackage, options: SubmitOptions) -> None:
    """Report the only job, and wait for it with --wait."""
    payload, outcome = sent.package.payload, sent.outcome
    if isinstance(outcome, QslurmError):
        raise outcome
    assert outcome is not None
    if options.wait and options.as_json:  # one document is printed at the end
        print_warnings(payload, outcome.warnings)
    else:
        print_submitted(connection, payload, outcome, parsable=options.parsable, as_json=options.as_json)
    if options.wait:
        from qslurm.cli.job_commands import wait_and_print

        job = JobRef(outcome.job_id, platform=connection.config.prefix.rstrip(":"))
        wait_and_print(connection, job, options.timeout_s, as_json=options.as_json, quiet=options.parsable)
        if sent.submission is not None:
            sent.submission.over = True


def _report_many(
    connection: CenterConnection, files: Sequence[str], sent: Sequence[SentPackage], options: SubmitOptions
) -> None:
    """Report each file, and wait for the jobs with --wait; exits with the worst error's code."""
    documents, failures = submission_documents(connection.config, files, sent)
    if not (options.as_json and options.wait):  # else one document is printed at the end
        print_submissions(connection.config, list(documents.values()), options)
    if failures:
        submitted = sum(document["job_id"] is not None for document in documents.values())
        what = "files" if len(documents) == len(files) else "jobs"
        note(f"{submitted} of {len(documents)} {what} were submitted.")
    if options.wait:
        failures += _wait(connection, sent, documents, options)
    if failures:
        from qslurm.cli.wait_many import worst_of

        raise click.exceptions.Exit(worst_of(failures).exit_code)


@contextmanager
def _progress(length: int) -> Iterator[Callable[[int], None]]:
    """A progress line for several files, on a terminal only."""
    done = 0
    with ProgressLine() as line:

        def update(more: int) -> None:
            nonlocal done
            done += more
            if length > 1:
                line.show(f"submitted {done} of {max(done, length)}")

        yield update


def _dry_run_document(files: Sequence[str], package: Package) -> dict[str, Any]:
    named = [files[member] for member in package.members]
    return ({"files": named} if package.is_array else {"file": named[0]}) | {"payload": package.payload}


def submission_documents(
    config: Config, files: Sequence[str], sent: Sequence[SentPackage]
) -> tuple[Documents, list[QslurmError]]:
    """A document for each file, in order, and the errors of packages that were not sent, which are printed."""
    documents: Documents = {}
    failures: list[QslurmError] = []
    for package, outcome in ((one.package, one.outcome) for one in sent):
        facts: dict[str, Any] = {"job_id": None, "error": None}
        if isinstance(outcome, QslurmError):
            failures.append(outcome)
            note(f"qslurm: {_named(files, package)}: {outcome}")
            facts["error"] = error_document(outcome)
        elif outcome is not None:
            print_warnings(package.payload, outcome.warnings)
            partition = package.payload["job"].get("partition")
            facts = {"job_id": outcome.job_id, "platform": config.platform, "partition": partition}
            facts["warnings"] = outcome.warnings
        for task, member in enumerate(package.members):
            document = documents[member, package.skip] = {"file": files[member], **facts}
            if facts["job_id"]:
                ref = JobRef(facts["job_id"], task if package.is_array else None)
                document |= {"id": f"{config.prefix}{ref}"} | ({"task": task} if package.is_array else {})
    return dict(sorted(documents.items())), failures


def print_submissions(config: Config, documents: Sequence[dict[str, Any]], options: SubmitOptions) -> None:
    """Print the submitted files: sentences, ids alone, or JSON."""
    printed = print_json({"jobs": documents}) if options.as_json else True
    for one in documents:
        if one["job_id"]:
            sentence = (
                f"Submitted job {one['id']} to {one['partition']} on {platform_label(config)}: {one['file']}"
            )
            printed = printed and (
                options.as_json or streams.write(one["id"] if options.parsable else sentence)
            )
            if not printed:  # stdout failed, but the user needs the job's id
                note(sentence)


def _wait(
    connection: CenterConnection, sent: Sequence[SentPackage], documents: Documents, options: SubmitOptions
) -> list[QslurmError]:
    """Wait for the submitted jobs, and print their outcomes; returns the errors."""
    from qslurm.cli.file_outcomes import add_outcomes, print_outcomes
    from qslurm.cli.wait_many import print_errors, wait_for_each

    open_jobs = [(one, one.submission) for one in sent if one.submission and one.submission.job_id]

    def over(place: int) -> None:
        open_jobs[place][1].over = True

    platform = connection.config.prefix.rstrip(":")
    jobs = [(connection, JobRef(submission.job_id or 0, platform=platform)) for _, submission in open_jobs]
    ends = wait_for_each(jobs, options.timeout_s, over)
    failures = [failure for _, failure in ends if failure is not None]
    print_errors(failures)
    if not options.parsable or options.as_json:
        for (one, _), (_, ref), end in zip(open_jobs, jobs, ends, strict=True):
            add_outcomes(documents, one.package, connection, ref, end)
        print_outcomes(list(documents.values()), as_json=options.as_json)
    return failures


def _named(files: Sequence[str], package: Package) -> str:
    more = f" and {len(package.members) - 1} more" if package.is_array else ""
    return files[package.members[0]] + more
