"""What stands between `--backend any` and a backend: who asks for it, what the job needs, what the platforms offer."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from qslurm.c1.queries.job_ids import platforms_in
from qslurm.c1.submission.options import ANY, Request
from qslurm.c1.submission.request import another_platform, needed_qubits
from qslurm.errors import InvalidInputError

if TYPE_CHECKING:
    from qslurm.c1.config.settings import Config
    from qslurm.c1.queries.lists import Backend
    from qslurm.c1.submission.backend_selection import Choice, Need, Offer


def wants_any(config: Config, request: Request) -> bool:
    """Whether a settled request leaves its backend open; InvalidInputError if it says a partition all the same."""
    if request.kind == "payload":
        return False
    if request.backend == ANY and request.partition:
        raise InvalidInputError(
            f"--partition {request.partition} says where, and --backend {ANY} leaves it open.",
            hint="Leave one of them out.",
        )
    return (request.backend or ("" if request.partition else config.job.backend)) == ANY


def need_of(config: Config, requests: Sequence[Request]) -> Need:
    """What a backend must have for all of some settled requests. Raises what is wrong with their circuits."""
    from qslurm.c1.submission.backend_selection import Need

    qubits = [needed for request in requests if (needed := needed_qubits(request)) is not None]
    shots = [wanted for request in requests if (wanted := request.shots or config.job.shots)]
    return Need(max(qubits, default=None), max(shots, default=None))


def offers_of(config: Config, backends: Iterable[Backend]) -> list[Offer]:
    """A platform's backends, as they are called among those of several platforms."""
    from qslurm.c1.submission.backend_selection import Offer

    of = f" of {config.platform}" if len(config.platforms) > 1 else ""
    return [Offer(config.platform, f"{one.name}{of}", one) for one in backends]


def placed(request: Request, choice: Choice) -> Request:
    """The request for the backend that was chosen."""
    return replace(request, platform=choice.offer.platform, backend=choice.offer.backend.name)


def chosen(
    config: Config,
    requests: Sequence[Request],
    names: Sequence[str],
    usual: str,
    offers: Callable[[Sequence[str], Need], Sequence[Offer]],
) -> tuple[list[Request], Choice | None]:
    """Settled requests, those that leave their backend open for the one backend that fits all of these, and why that.

    `names` are the platforms that may be chosen from; `offers` asks some of them for their backends. InvalidInputError
    if a file is for another platform, or no platform knows what the jobs depend on, or nothing fits.
    """
    from qslurm.c1.submission.backend_selection import choose

    left_open = [wants_any(config, request) for request in requests]
    if not any(left_open):
        return list(requests), None
    for request in requests:
        if request.platform and request.platform not in names:
            raise another_platform(request, names[0])
    open_ones = [request for request, is_open in zip(requests, left_open, strict=True) if is_open]
    need = need_of(config, open_ones)
    choice = choose(need, offers(within(names, usual, requests), need), time.time())
    return [
        placed(request, choice) if is_open else request
        for request, is_open in zip(requests, left_open, strict=True)
    ], choice


def within(names: Sequence[str], usual: str, requests: Iterable[Request]) -> list[str]:
    """The platforms among some that know the jobs which requests depend on; `usual` knows those without a name."""
    needed = {name or usual for one in requests for name in platforms_in(one.dependency or "")}
    if len(needed) > 1 or not needed <= set(names):
        raise InvalidInputError(
            f"No platform knows all jobs of the dependency: they are of {', '.join(sorted(needed))}.",
            hint="C2 knows its own jobs only; wait for others with `qslurm wait`.",
        )
    return [name for name in names if not needed or name in needed]
