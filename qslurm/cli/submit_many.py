"""`qslurm submit` of several files."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from qslurm.center.jobs import refuse_unknown_dependency
from qslurm.center.many import submit_many
from qslurm.center.packing import FEWEST, Package, halved, packed
from qslurm.center.refs import JobRef
from qslurm.center.request import Checked, checked, payload_of
from qslurm.cli.output import error_document, note, print_json
from qslurm.cli.placing import each
from qslurm.cli.submitted import say_warnings, shown_place
from qslurm.errors import QslurmError, RefusedError

if TYPE_CHECKING:
    from collections.abc import Callable

    from qslurm.center.asked import Request
    from qslurm.center.connection import Center
    from qslurm.center.settings import Config
    from qslurm.cli.options import CenterFlags
    from qslurm.slurmrest import Submitted

    Outcome = Submitted | QslurmError | None


INVALID_ARRAY = 2081
"""Slurm's error number for an array that is none, or too large (slurm_errno.h)."""


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
    connection = center.open(platform)
    config = connection.config
    files = [str(request.file) for request in requests]
    ready = each(requests, lambda request: checked(config, request, os.environ, note))
    packages = each(
        packed(ready, fewest=len(ready) + 1 if separate else FEWEST), lambda one: _package(config, *one)
    )
    if dry_run:
        print_json({"jobs": [_dry(files, package) for package in packages]})
        return
    for payload in {str(one.payload["job"].get("dependency")): one.payload for one in packages}.values():
        refuse_unknown_dependency(connection, payload)
    try:
        with _progress(len(files)) as progress:
            sent = _sent(lambda: center.open(platform), config, ready, packages, progress)
    except KeyboardInterrupt:
        note("\nSome files were sent; `qslurm queue --me` lists their jobs.")
        raise
    _print_all(config, files, sent, parsable=parsable, as_json=as_json)


def _package(config: Config, members: tuple[int, ...], one: Checked) -> Package:
    return Package(payload_of(config, one), members)


def _sent(
    connect: Callable[[], Center],
    config: Config,
    ready: Sequence[Checked],
    packages: Sequence[Package],
    progress: Callable[[int], None],
) -> list[tuple[Package, Outcome]]:
    """What became of each package. An array that C2 finds too large is sent in halves."""
    found: list[tuple[Package, Outcome]] = []
    while packages:
        outcomes = submit_many(
            connect,
            [package.payload for package in packages],
            on_done=partial(_count, packages, progress),
        )
        sent = list(zip(packages, outcomes, strict=True))
        packages = []
        for package, outcome in sent:
            too_large = isinstance(outcome, RefusedError) and outcome.slurm_error == INVALID_ARRAY
            if package.is_array and too_large:
                progress(-len(package.members))
                packages += [_package(config, *half) for half in halved(ready, package.members)]
            else:
                found.append((package, outcome))
    return found


def _count(packages: Sequence[Package], progress: Callable[[int], None], number: int) -> None:
    progress(len(packages[number].members))


@contextmanager
def _progress(length: int) -> Iterator[Callable[[int], None]]:
    """A bar on a terminal only: a pipe gets results, and no progress."""
    if sys.stderr is None or not sys.stderr.isatty():
        yield lambda _: None
        return
    with click.progressbar(length=length, label="Submitting", file=sys.stderr) as bar:
        yield bar.update


def _dry(files: Sequence[str], package: Package) -> dict[str, Any]:
    named = [files[member] for member in package.members]
    return ({"files": named} if package.is_array else {"file": named[0]}) | {"payload": package.payload}


def _print_all(
    config: Config,
    files: Sequence[str],
    sent: Sequence[tuple[Package, Outcome]],
    *,
    parsable: bool,
    as_json: bool,
) -> None:
    documents: dict[int, dict[str, Any]] = {}
    failures: list[QslurmError] = []
    for package, outcome in sent:
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
        submitted = sum(document["job_id"] is not None for document in ordered)
        note(f"{submitted} of {len(files)} files were submitted.")
        raise click.exceptions.Exit(max(failure.exit_code for failure in failures))


def _named(files: Sequence[str], package: Package) -> str:
    more = f" and {len(package.members) - 1} more" if package.is_array else ""
    return files[package.members[0]] + more
