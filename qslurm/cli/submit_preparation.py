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


def each(things: Sequence[S], make: Callable[[S], T]) -> list[T]:
    """What is made of all of them; if some can't be, each of these is said, and the last one's error raised."""
    made, failures = _tried(things, make)
    _refuse(failures, len(things))
    return made


def read_all(jobs: Sequence[JobSpec], check: Callable[[JobSpec], object]) -> list[JobSpec]:
    """The jobs with their files read; what their user may not have meant is said.

    If some can't be read, the others are checked, so that all that is wrong is said at once.
    """
    from qslurm.c1.submission.job_reader import read, unused_options

    found, failures = _tried(jobs, lambda job: read(job, note))
    for job in found:
        if unused := unused_options(job):
            are = "are" if len(unused) > 1 else "is"
            note(f"{job.file} is sent unchanged; {', '.join(unused)} {are} ignored.")
    if failures:
        failures += _tried(found, check)[1]
    _refuse(failures, len(jobs))
    return found


def _tried(things: Sequence[S], make: Callable[[S], T]) -> tuple[list[T], list[QslurmError]]:
    made, failures = [], []
    for thing in things:
        try:
            made.append(make(thing))
        except QslurmError as error:
            failures.append(error)
    return made, failures


def _refuse(failures: Sequence[QslurmError], files: int) -> None:
    if not failures:
        return
    for failure in failures[:-1]:
        print_error(failure, as_json=False)
    last = failures[-1]
    if files == 1:
        raise last
    hint = f"{last.hint} Nothing was submitted: {len(failures)} of {files} files are invalid.".strip()
    raise type(last)(last.message, hint=hint) from last


def place(center: CenterFlags, jobs: Sequence[JobSpec]) -> tuple[str, list[JobSpec]]:
    """The one platform that jobs go to, and the jobs with a backend choose_backends where it was left open."""
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
    """What these platforms offer; those that have not answered are not waited for when one is free that fits."""
    from qslurm.c1.queries.lists import backends
    from qslurm.c1.submission.backend_candidates import offers_of
    from qslurm.c1.submission.backend_selection import is_free
    from qslurm.cli.all_platforms import ask_all

    if need.qubits is None:
        note("The number of qubits is unknown, so backends of any size are considered. Use --qubits N.")
    now = time.time()
    found = ask_all(
        center,
        lambda connection: offers_of(connection.config, backends(connection)),
        names,
        lambda offers: any(is_free(need, offer, now) for offer in offers),
    )
    return [offer for _, offers in found.answers for offer in offers]
