"""Resolves `--backend any`: which jobs use it, what they need, and what the platforms offer."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

import msgspec

from qslurm.c1.queries.job_ids import platforms_in
from qslurm.c1.submission.job_reader import ANY
from qslurm.c1.submission.prepare import another_platform, needed_qubits
from qslurm.errors import InvalidInputError

if TYPE_CHECKING:
    from qslurm.c1.config.settings import Config
    from qslurm.c1.queries.lists import Backend
    from qslurm.c1.submission.backend_selection import Choice, Need, Offer
    from qslurm.payload.spec import JobSpec


def wants_any(config: Config, job: JobSpec) -> bool:
    """Whether a job's backend is "any"; InvalidInputError if it has a partition as well."""
    if job.kind == "payload":
        return False
    if job.backend == ANY and job.partition:
        raise InvalidInputError(
            f"--partition {job.partition} and --backend {ANY} are mutually exclusive.",
            hint="Use only one of them.",
        )
    return (job.backend or ("" if job.partition else config.job.backend)) == ANY


def need_of(config: Config, jobs: Sequence[JobSpec]) -> Need:
    """The qubits and shots needed to run all of these jobs; raises errors in their circuits."""
    from qslurm.c1.submission.backend_selection import Need

    qubits = [needed for job in jobs if (needed := needed_qubits(job)) is not None]
    shots = [wanted for job in jobs if (wanted := job.shots or config.job.shots)]
    return Need(max(qubits, default=None), max(shots, default=None))


def offers_of(config: Config, backends: Iterable[Backend]) -> list[Offer]:
    """A platform's backends, named with the platform if there are several."""
    from qslurm.c1.submission.backend_selection import Offer

    of = f" of {config.platform}" if len(config.platforms) > 1 else ""
    return [Offer(config.platform, f"{one.name}{of}", one) for one in backends]


def with_choice(job: JobSpec, choice: Choice) -> JobSpec:
    """The job with the chosen backend."""
    return msgspec.structs.replace(job, platform=choice.offer.platform, backend=choice.offer.backend.name)


def choose_backends(
    config: Config,
    jobs: Sequence[JobSpec],
    names: Sequence[str],
    default: str,
    offers: Callable[[Sequence[str], Need], Sequence[Offer]],
) -> tuple[list[JobSpec], Choice | None]:
    """The jobs, those with backend "any" with one that fits them all, and the choice (None if there was none to make).

    `names` are the platforms to choose from, `default` the one of ids without a platform; `offers` queries platforms
    for their backends. InvalidInputError if a file names another platform, no platform has all jobs of a dependency,
    or no backend fits.
    """
    from qslurm.c1.submission.backend_selection import choose

    is_any = [wants_any(config, job) for job in jobs]
    if not any(is_any):
        return list(jobs), None
    for job in jobs:
        if job.platform and job.platform not in names:
            raise another_platform(job, names[0])
    need = need_of(config, [job for job, is_open in zip(jobs, is_any, strict=True) if is_open])
    choice = choose(need, offers(within(names, default, jobs), need), time.time())
    return [
        with_choice(job, choice) if is_open else job for job, is_open in zip(jobs, is_any, strict=True)
    ], choice


def within(names: Sequence[str], default: str, jobs: Iterable[JobSpec]) -> list[str]:
    """The platforms that have all jobs of these jobs' dependencies; `default` has those without a platform."""
    needed = {name or default for one in jobs for name in platforms_in(one.dependency or "")}
    if len(needed) > 1 or not needed <= set(names):
        raise InvalidInputError(
            f"No platform has all jobs of the dependency; they are on {', '.join(sorted(needed))}.",
            hint="C2 knows only its own jobs. Use `qslurm wait` for the others.",
        )
    return [name for name in names if not needed or name in needed]
