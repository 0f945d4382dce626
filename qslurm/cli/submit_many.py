"""`qslurm submit` of several files."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import click

from qslurm.c1.queries.job_ids import JobRef
from qslurm.c1.submission.backend_limits import limits_of, nothing_known
from qslurm.c1.submission.packing import FEWEST, Package, packed
from qslurm.c1.submission.request import checked
from qslurm.c1.submission.sending import Sending, is_too_large, package_of
from qslurm.cli import streams
from qslurm.cli.backend_selection import each
from qslurm.cli.output import ProgressLine, error_document, note, print_json
from qslurm.cli.submission_report import say_warnings, shown_place
from qslurm.cli.wait_many import ends_of, say, worst_of
from qslurm.cli.waiting import Submission, Waiting
from qslurm.errors import QslurmError, RefusedError

if TYPE_CHECKING:
    from collections.abc import Callable

    from qslurm.c1.config.settings import Config
    from qslurm.c1.connection.center import Center
    from qslurm.c1.submission.options import Request
    from qslurm.cli.options import CenterFlags
    from qslurm.slurm.rest import Submitted

    Outcome = Submitted | QslurmError | None
    Documents = dict[tuple[int, int], dict[str, Any]]
    """By the place of a file in the user's list, and how many of its tasks come before."""


@dataclass(frozen=True)
class How:
    """What `qslurm submit` was asked beside what each job is to be."""

    separate: bool = False
    dry_run: bool = False
    parsable: bool = False
    as_json: bool = False
    wait: bool = False
    keep: bool = False
    timeout_s: float | None = None


def submit_files(requests: Sequence[Request], center: CenterFlags, platform: str, how: How) -> None:
    """Submit several settled requests; exits with the code of the worst error after what could be sent has been."""
    connection = center.open(platform)
    config = connection.config
    files = [str(request.file) for request in requests]
    limits = nothing_known if how.dry_run else limits_of(connection)
    ready = each(requests, lambda request: checked(config, request, os.environ, note, limits))
    packages = each(
        packed(ready, fewest=len(ready) + 1 if how.separate else FEWEST), lambda one: package_of(config, *one)
    )
    if how.dry_run:
        print_json({"jobs": [_dry(files, package) for package in packages]})
        return

    def connect() -> Center:
        return waiting.tie(center.open(platform))

    with Waiting(connection, connect, keep=how.keep or not how.wait) as waiting:
        try:
            sending = Sending(config, ready, connect, connection.submissions_at_once)
            sent = _sent(sending, packages, waiting, len(files))
        except KeyboardInterrupt:
            note("\nSome files were sent; `qslurm queue --me` lists their jobs.")
            raise
        documents, failures = _told(config, files, sent)
        if not (how.as_json and how.wait):  # then it is one document, at the end
            _print_all(config, list(documents.values()), how)
        if failures:
            submitted = sum(document["job_id"] is not None for document in documents.values())
            what = "files" if len(documents) == len(files) else "jobs"
            note(f"{submitted} of {len(documents)} {what} were submitted.")
        if how.wait:
            failures += _wait(connection, sent, documents, how)
    if failures:
        raise click.exceptions.Exit(worst_of(failures).exit_code)


@dataclass(frozen=True)
class Sent:
    """A package, what C2 has said to it, and how it is waited for."""

    package: Package
    outcome: Outcome
    submission: Submission | None


def _sent(sending: Sending, packages: Sequence[Package], waiting: Waiting, length: int) -> list[Sent]:
    """Send all, and show how far it is."""
    bound: dict[tuple[tuple[int, ...], int], Submission] = {}

    def begins(package: Package) -> None:
        bound[package.members, package.skip] = waiting.add(package.payload)

    def done(package: Package, outcome: Submitted | QslurmError) -> None:
        if isinstance(outcome, QslurmError):
            bound[package.members, package.skip].over = isinstance(outcome, RefusedError)
        else:
            bound[package.members, package.skip].job_id = outcome.job_id
        if not is_too_large(outcome):
            update(len(package.members))

    with _progress(length) as update:
        sent = replace(sending, on_begin=begins, on_done=done).send(packages)
    return [Sent(package, outcome, bound.get((package.members, package.skip))) for package, outcome in sent]


@contextmanager
def _progress(length: int) -> Iterator[Callable[[int], None]]:
    """How far it is, on a terminal only: a pipe gets results, and no progress."""
    done = 0
    with ProgressLine() as line:

        def update(more: int) -> None:
            nonlocal done
            done += more
            line.show(f"submitted {done} of {max(done, length)}")

        yield update


def _dry(files: Sequence[str], package: Package) -> dict[str, Any]:
    named = [files[member] for member in package.members]
    return ({"files": named} if package.is_array else {"file": named[0]}) | {"payload": package.payload}


def _told(config: Config, files: Sequence[str], sent: Sequence[Sent]) -> tuple[Documents, list[QslurmError]]:
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


def _print_all(config: Config, documents: Sequence[dict[str, Any]], how: How) -> None:
    told = print_json({"jobs": documents}) if how.as_json else True
    for one in documents:
        if one["job_id"]:
            said = f"Submitted job {one['id']} to {one['partition']} on {shown_place(config)}: {one['file']}"
            told = told and (how.as_json or streams.write(one["id"] if how.parsable else said))
            if not told:  # whatever has become of stdout: the job is there, and this is its only name
                note(said)


def _wait(connection: Center, sent: Sequence[Sent], documents: Documents, how: How) -> list[QslurmError]:
    """Wait for what was submitted, and print what came of it as far as that is asked; the errors of what went wrong."""
    from qslurm.cli.many_files_end import ends_in, print_ends

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
