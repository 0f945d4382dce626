"""Select the platform of a submission, and the backend for `--backend any`."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

from qslurm.cli.output import note, print_error
from qslurm.errors import InvalidInputError, QslurmError

if TYPE_CHECKING:
    from qslurm.c1.submission.backend_selection import Need, Offer
    from qslurm.cli.shared_options import CenterFlags
    from qslurm.payload.spec import JobSpec

T = TypeVar("T")
S = TypeVar("S")


def convert_all_or_report(items: Sequence[S], convert: Callable[[S], T]) -> list[T]:
    """Convert all; if some fail, prints their errors and raises the last."""
    converted, failures = _convert(items, convert)
    _report(failures, len(items))
    return converted


def read_all(jobs: Sequence[JobSpec], check: Callable[[JobSpec], object]) -> list[JobSpec]:
    """Read the jobs' files, and print notes about likely mistakes.

    If some are unreadable, the others are checked as well, so that all errors are reported at once.
    """
    from qslurm.c1.submission.job_reader import read, unused_options

    found, failures = _convert(jobs, lambda job: read(job, note))
    for job in found:
        if unused := unused_options(job):
            are = "are" if len(unused) > 1 else "is"
            note(f"{job.file} is sent unchanged; {', '.join(unused)} {are} ignored.")
    if failures:
        failures += _convert(found, check)[1]
    _report(failures, len(jobs))
    return found


def _convert(items: Sequence[S], convert: Callable[[S], T]) -> tuple[list[T], list[QslurmError]]:
    converted, failures = [], []
    for item in items:
        try:
            converted.append(convert(item))
        except QslurmError as error:
            failures.append(error)
    return converted, failures


def _report(failures: Sequence[QslurmError], files: int) -> None:
    if not failures:
        return
    for failure in failures[:-1]:
        print_error(failure, as_json=False)
    last = failures[-1]
    if files == 1:
        raise last
    hint = f"{last.hint} Nothing was submitted: {len(failures)} of {files} files are invalid.".strip()
    raise type(last)(last.message, hint=hint) from last


def select_platform(center: CenterFlags, jobs: Sequence[JobSpec]) -> tuple[str, list[JobSpec]]:
    """The platform for these jobs, and the jobs with a backend chosen where it is "any"."""
    from qslurm.c1.submission.backend_candidates import choose_backends, wants_any

    names = sorted({job.platform for job in jobs if job.platform})
    if len(names) > 1:
        raise InvalidInputError(
            f"The files name different platforms: {', '.join(names)}.",
            hint="Submit the files of each platform separately.",
        )
    platforms = center.platforms
    selected = names[0] if names else platforms.selected
    config = platforms.config(selected or platforms.default or platforms.names[0])
    wants_any_backend = [wants_any(config, job) for job in jobs]
    if not any(wants_any_backend):
        if any(job.qubits for job in jobs):
            note("--qubits has no effect without --backend any.")
        return platforms.config(selected).platform, list(jobs)
    if selected or not all(wants_any_backend):
        names = [platforms.config(selected).platform]
    names = names or list(platforms.wanted)
    default = names[0] if len(names) == 1 else platforms.default
    config = platforms.config(names[0])
    found, choice = choose_backends(
        config, jobs, names, default, lambda some, need: _offers(center, some, need)
    )
    assert choice is not None
    note(f"--backend any: {choice.why}.")
    return choice.offer.platform, found


def _offers(center: CenterFlags, names: Sequence[str], need: Need) -> list[Offer]:
    """The backends of these platforms; after one with a free backend that fits, the others are not waited for."""
    from qslurm.c1.queries.lists import backends
    from qslurm.c1.submission.backend_candidates import offers_of
    from qslurm.c1.submission.backend_selection import is_free
    from qslurm.cli.all_platforms import query_all

    if need.qubits is None:
        note("The number of qubits is unknown, so backends of any size are considered. Use --qubits N.")
    now = time.time()
    found = query_all(
        center,
        lambda connection: offers_of(connection.config, backends(connection)),
        names,
        lambda offers: any(is_free(need, offer, now) for offer in offers),
    )
    return [offer for _, offers in found.answers for offer in offers]
