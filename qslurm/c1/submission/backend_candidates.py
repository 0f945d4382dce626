"""What stands between `--backend any` and a backend: who asks for it, what the job needs, what the platforms offer."""

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
    """Whether a job that was read leaves its backend open; InvalidInputError if it says a partition all the same."""
    if job.kind == "payload":
        return False
    if job.backend == ANY and job.partition:
        raise InvalidInputError(
            f"--partition {job.partition} and --backend {ANY} are mutually exclusive.",
            hint="Use only one of them.",
        )
    return (job.backend or ("" if job.partition else config.job.backend)) == ANY


def need_of(config: Config, jobs: Sequence[JobSpec]) -> Need:
    """What a backend must have for all of some jobs that were read. Raises what is wrong with their circuits."""
    from qslurm.c1.submission.backend_selection import Need

    qubits = [needed for job in jobs if (needed := needed_qubits(job)) is not None]
    shots = [wanted for job in jobs if (wanted := job.shots or config.job.shots)]
    return Need(max(qubits, default=None), max(shots, default=None))


def offers_of(config: Config, backends: Iterable[Backend]) -> list[Offer]:
    """A platform's backends, as they are called among those of several platforms."""
    from qslurm.c1.submission.backend_selection import Offer

    of = f" of {config.platform}" if len(config.platforms) > 1 else ""
    return [Offer(config.platform, f"{one.name}{of}", one) for one in backends]


def placed(job: JobSpec, choice: Choice) -> JobSpec:
    """The job for the backend that was chosen."""
    return msgspec.structs.replace(job, platform=choice.offer.platform, backend=choice.offer.backend.name)


def chosen(
    config: Config,
    jobs: Sequence[JobSpec],
    names: Sequence[str],
    usual: str,
    offers: Callable[[Sequence[str], Need], Sequence[Offer]],
) -> tuple[list[JobSpec], Choice | None]:
    """Jobs that were read, those that leave their backend open for the one that fits all of these, and why that one.

    `names` are the platforms that may be chosen from; `offers` asks some of them for their backends. InvalidInputError
    if a file is for another platform, or no platform knows what the jobs depend on, or nothing fits.
    """
    from qslurm.c1.submission.backend_selection import choose

    left_open = [wants_any(config, job) for job in jobs]
    if not any(left_open):
        return list(jobs), None
    for job in jobs:
        if job.platform and job.platform not in names:
            raise another_platform(job, names[0])
    open_ones = [job for job, is_open in zip(jobs, left_open, strict=True) if is_open]
    need = need_of(config, open_ones)
    choice = choose(need, offers(within(names, usual, jobs), need), time.time())
    return [
        placed(job, choice) if is_open else job for job, is_open in zip(jobs, left_open, strict=True)
    ], choice


def within(names: Sequence[str], usual: str, jobs: Iterable[JobSpec]) -> list[str]:
    """The platforms among some that know the jobs which jobs depend on; `usual` knows those without a name."""
    needed = {name or usual for one in jobs for name in platforms_in(one.dependency or "")}
    if len(needed) > 1 or not needed <= set(names):
        raise InvalidInputError(
            f"No platform has all jobs of the dependency; they are on {', '.join(sorted(needed))}.",
            hint="C2 knows only its own jobs. Use `qslurm wait` for the others.",
        )
    return [name for name in names if not needed or name in needed]
