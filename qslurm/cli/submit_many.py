"""`qslurm submit` of several files."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from qslurm.center.refs import JobRef
from qslurm.cli.output import error_document, note, print_json
from qslurm.cli.placing import each
from qslurm.cli.submit import say_warnings, shown_place
from qslurm.errors import QslurmError, RefusedError

if TYPE_CHECKING:
    from collections.abc import Callable

    from qslurm.center.asked import Request
    from qslurm.center.packing import Package
    from qslurm.center.settings import Config
    from qslurm.cli.options import CenterFlags
    from qslurm.slurmrest import Submitted

    Outcome = Submitted | QslurmError | None


def submit_files(
    requests: Sequence[Request],
    center: CenterFlags,
    platform: str,
    *,
    separate: bool,
    dry_run: bool,
    parsable: bool,
    as_json: bool,
) -> None:
    """Submit several settled requests; exits with the code of the worst error after what could be sent has been."""
    from qslurm.center.jobs import refuse_unknown_dependency
    from qslurm.center.many import submit_many

    connection = center.open(platform)
    packages = _packages(connection.config, requests, separate=separate)
    files = [str(request.file) for request in requests]
    if dry_run:
        print_json({"jobs": [_dry(files, package) for package in packages]})
        return
    payloads = [package.payload for package in packages]
    for payload in {str(one["job"].get("dependency")): one for one in payloads}.values():
        refuse_unknown_dependency(connection, payload)
    with _progress(len(files)) as progress:
        try:
            outcomes = submit_many(
                lambda: center.open(platform),
                payloads,
                on_done=lambda number: progress(len(packages[number].members)),
            )
        except KeyboardInterrupt:
            note("\nSome files were sent; `qslurm queue --me` lists their jobs.")
            raise
    _print_all(connection.config, files, packages, outcomes, parsable=parsable, as_json=as_json)


@contextmanager
def _progress(length: int) -> Iterator[Callable[[int], None]]:
    """A bar on a terminal only: a pipe gets results, and no progress."""
    if sys.stderr is None or not sys.stderr.isatty():
        yield lambda _: None
        return
    with click.progressbar(length=length, label="Submitting", file=sys.stderr) as bar:
        yield bar.update


def _packages(config: Config, requests: Sequence[Request], *, separate: bool) -> list[Package]:
    """What to send: files with the same options as arrays where there are many, unless they shall be jobs."""
    from qslurm.center.packing import FEWEST, Package, packed
    from qslurm.center.request import checked, payload_of

    ready = each(requests, lambda request: checked(config, request, os.environ, note))
    fewest = len(requests) + 1 if separate else FEWEST
    return each(packed(ready, fewest=fewest), lambda one: Package(payload_of(config, one[1]), one[0]))


def _dry(files: Sequence[str], package: Package) -> dict[str, Any]:
    named = [files[member] for member in package.members]
    return ({"files": named} if package.is_array else {"file": named[0]}) | {"payload": package.payload}


def _print_all(
    config: Config,
    files: Sequence[str],
    packages: Sequence[Package],
    outcomes: Sequence[Outcome],
    *,
    parsable: bool,
    as_json: bool,
) -> None:
    documents: dict[int, dict[str, Any]] = {}
    failures: list[QslurmError] = []
    for package, outcome in zip(packages, outcomes, strict=True):
        said: dict[str, Any] = {"job_id": None, "error": None}
        if isinstance(outcome, QslurmError):
            failures.append(outcome)
            note(f"qslurm: {_named(files, package)}: {outcome}{_way_out(package, outcome)}")
            said["error"] = error_document(outcome)
        elif outcome is not None:
            say_warnings(package.payload, outcome.warnings)
            partition = package.payload["job"].get("partition")
            said = {"job_id": outcome.job_id, "platform": config.platform, "partition": partition}
            said["warnings"] = outcome.warnings
        for task, member in enumerate(package.members):
            documents[member] = {"file": files[member], **said}
            if said["job_id"]:
                ref = JobRef(said["job_id"], task if package.is_array else None)
                documents[member] |= {"id": f"{config.prefix}{ref}"} | (
                    {"task": task} if package.is_array else {}
                )
    ordered = [documents[member] for member in sorted(documents)]
    if as_json:
        print_json({"jobs": ordered})
    else:
        for one in ordered:
            if one["job_id"]:
                where = f"{one['partition']} on {shown_place(config)}"
                click.echo(one["id"] if parsable else f"Submitted job {one['id']} to {where}: {one['file']}")
    if failures:
        sent = sum(document["job_id"] is not None for document in ordered)
        note(f"{sent} of {len(files)} files were submitted.")
        raise click.exceptions.Exit(max(failure.exit_code for failure in failures))


def _named(files: Sequence[str], package: Package) -> str:
    more = f" and {len(package.members) - 1} more" if package.is_array else ""
    return files[package.members[0]] + more


def _way_out(package: Package, error: QslurmError) -> str:
    """Of a refused array: a C2 may allow smaller ones only."""
    if package.is_array and isinstance(error, RefusedError) and "array" in error.message.lower():
        return " With --separate each file is a job of its own."
    return ""
